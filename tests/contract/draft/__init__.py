"""The draft worker on a real port."""
