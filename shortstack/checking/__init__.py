"""Compares the tokens of a running stack with those of a reference.

prompts     the file of prompts, and what is wrong with it
compare     mismatch or near tie: a verdict on two sequences, pure
encoder     the ids of a text prompt
stand_in    lets a directory without a tokenizer be served
reference   the tokens that should have come: transformers, or our own plain decoding
stack_run   the tokens that came
"""
