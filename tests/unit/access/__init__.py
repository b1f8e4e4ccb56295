"""Keys, records and TLS files."""
