"""The command line and the local stack's pure parts."""
