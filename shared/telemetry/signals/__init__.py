"""The table of signals: every metric of every service, in one place.

row         what a row says of a metric
vllm        names that vLLM's dashboards read, of the verify worker alone
cell        our own of a verify worker: rounds, passes, sessions, memory
control     what its controller decides, and what Redis takes of that
gateway     requests as clients see them
draft       a draft worker's batches
process     what every service tells of its process
table       all of them; docs/metrics.md is made from it
"""
