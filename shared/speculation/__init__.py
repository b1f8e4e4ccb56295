"""Speculation: the vocabulary of a round, and pure rules over it.

vocabulary   values that every service may hold (no torch)
acceptance   which drafts of a round survive
cost_model   what a round costs and when it pays
methods/     one file per way of drafting
"""
