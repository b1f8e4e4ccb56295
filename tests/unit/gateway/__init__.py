"""The gateway without its network."""
