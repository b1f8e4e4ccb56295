"""Tests of shared/control/skip_search."""
