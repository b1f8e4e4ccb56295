"""Tests, by level: unit, contract, cluster, golden, gpu."""
