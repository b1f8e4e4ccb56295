"""Tests of shared/control/policies."""
