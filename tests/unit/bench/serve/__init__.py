"""Unit tests of `bench serve`."""
