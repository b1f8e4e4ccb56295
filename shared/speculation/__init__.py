"""Speculation: the vocabulary of a round, and pure rules over it.

vocabulary   values that every service may hold (no torch)
acceptance   which drafts of a round survive
draft_vocab  the token ids that drafts may be scored by, and their file
cost_model   what a round costs and when it pays
cost_fit     takes the noise out of measured times
tape         what exits said along a text, and rounds replayed over it
drafting     drives the rounds of all methods together
skip_set     sub-layers that a draft leaves out
methods/     one file per way of drafting
"""
