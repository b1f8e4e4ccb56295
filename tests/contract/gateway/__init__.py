"""The gateway on a real port, before fake cells."""
