"""Tests of shared/control."""
