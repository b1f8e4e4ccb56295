"""Tests of shared/control/evidence."""
