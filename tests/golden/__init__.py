"""Speculative output against plain output."""
