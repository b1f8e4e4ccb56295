"""The verify worker on a real port."""
