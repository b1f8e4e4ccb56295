"""Hostile calls to the ports of a stack: what they are answered, and what they leave behind.

attacks   the calls, from a seed: pure
stand     sends them, and looks for what is still held afterwards
command   `shortstack bench hostile`
"""
