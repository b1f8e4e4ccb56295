"""Tests of services/verify, without a network."""
