"""The commands, one a file, each a typer-compatible function named `command`.

up         bring up a local stack and keep it up
generate   complete a text
chat       talk, keeping the history
info       cells, model, pool and counters
check      the stack's tokens against a reference
"""
