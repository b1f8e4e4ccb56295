"""Kangaroo: draft adapters for a model that stays as it is (arXiv:2404.18911).

adapter   the adapters as they are trained, and the frozen model that they learn from
loss      soft cross-entropy against the model's own last layer, at the same position
scores    how well an adapter drafts, and the raw exit at the same layer
trainer   transformers' Trainer with that loss
run       the run, in reading order
card      the run's report, in words
"""
