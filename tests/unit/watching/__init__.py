"""Dashboards and alert rules."""
