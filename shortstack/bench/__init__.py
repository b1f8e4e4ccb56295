"""Measurements: models made for them, the speed of decoding, the behaviour under load.

synth    writes a random model whose early exit agrees with its end at a chosen rate
decode   times one session through every way of decoding, on the same weights and prompts
serve    sends many requests at once, as clients of the gateway, to it and to other servers
"""
