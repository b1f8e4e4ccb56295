"""What a user imports and types.

client, request, events   a gateway's client: prompts in, a stream of small values out
stack                     brings up Redis, cells and a gateway as processes of this one
plan, children            what the stack is made of; how its processes are started and ended
launch, guard             what keeps them from outliving this process
cli, commands/            the command line
draft_vocab/              which tokens a corpus is made of, and what drafting from them saves
checking/                 compares a stack's tokens with a reference
demo                      four prompts side by side, then a measurement
bench/                    measurements
"""
