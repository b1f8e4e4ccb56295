"""Fault drills: a stack under load, one fault after the other, and what became of its promises.

faults    the catalogue: what is done, what is promised, what shows it
plan      when and where each fault strikes, from a seed: pure
answers   requests and their plain answers
load      clients that ask, ask again where they are told to, and compare
relay     a socket between two peers that can be cut, held or garbled
meddler   a draft worker's peer that changes what it says: malformed, foreign, repeated drafts
stand     the stack, what stands between its parts, and how it is doing
holdings  what the stack holds: pages, sessions, descriptors, segments, processes
strikes   how each fault is done and undone
verdict   what was promised against what happened: pure
run       one drill after the other
view      the table
command   `shortstack drill`
"""
