"""Measurements: models made for them, and the speed of decoding.

synth    writes a random model whose early exit agrees with its end at a chosen rate
decode   times one session through every way of decoding, on the same weights and prompts
"""
