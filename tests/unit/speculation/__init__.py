"""The vocabulary of a round and the pure rules over it."""
