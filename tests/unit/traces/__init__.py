"""Tests of shortstack/traces."""
