"""Pure code, on values; no network."""
