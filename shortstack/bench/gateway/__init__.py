"""What the gateway adds to a request: the same requests through it and straight to its cell.

callers   the three ways to a cell
turns     who calls when; the worker's own times of the same rounds
figures   pure: differences, verdicts, tables
command   `shortstack bench gateway`
"""
