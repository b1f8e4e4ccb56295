"""The control store against a real Redis."""
