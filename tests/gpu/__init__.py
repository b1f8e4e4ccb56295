"""Tests that need a CUDA device; `make test-gpu` runs them, elsewhere they say why they do not."""
