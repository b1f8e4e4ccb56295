"""`shortstack bench methods`: every way to draft side by side, through one gateway.

contenders   the ways that a model can draft, by name
run          lets them take turns, compares what they emitted with plain decoding
report       what the turns add up to, as JSON, table and picture
"""
