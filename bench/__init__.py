"""Benchmarks: one script per published number; `results/` holds their JSON, the machine named."""
