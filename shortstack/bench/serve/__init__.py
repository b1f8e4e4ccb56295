"""Serving under load, measured as a client of the gateway sees it.

A load is a seeded list of requests and the way they are sent; whoever is measured is a sender, so
all of them get the same load. Pure parts know nothing of clocks, processes or sockets.

workload, modes     what is sent: prompts, lengths, arrivals; how the gateway is asked to speculate
result, window,     what came back: one value per request, the span of time in which the load
figures             stood, and percentiles over it
senders, loops      who sends and when: closed loop, open loop
open_serve          stack and peers, up and warm; cell_watch samples the pool meanwhile
sweep, checks       scenario `sweep`: every sender under every load, ids compared at the end
prompts_arriving, next_turn, overload, soak      the other scenarios, a file each
child               transformers as a server of streams, in a process of its own
"""
