"""Tests of services/draft, without a network."""
