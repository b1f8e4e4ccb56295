"""Acceptance heads: how likely a frozen model is to agree with what its exits choose.

head      the heads as they are trained, and the frozen model that they are for
looks     what exits choose at the positions of a batch, and whether the model chooses the same
loss      binary cross-entropy
own_text  rows in which the model itself goes on from a prompt
scores    how well heads tell acceptance, and what is known without one
trainer   transformers' Trainer with that loss
run       the run, in reading order
card      the run's report, in words
"""
