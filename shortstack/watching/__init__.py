"""Checks what watches a stack: dashboards and alert rules, against the table and a Prometheus.

expressions   what dashboards and rules ask for, and what is wrong with it by the table of signals
traffic       requests that leave something in every signal
prometheus    a real Prometheus that scrapes a stack
watch         all of it together, as scripts/check_dashboards.py does it
"""
