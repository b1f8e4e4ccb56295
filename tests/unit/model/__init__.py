"""Tests of shared/model."""
