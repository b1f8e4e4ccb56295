"""What more than one service needs.

rpc          the wire: generated stubs, server and channel builders, error <-> status
model        torch lives here: weights, layer stack, attention, KV pool, sampling
speculation  vocabulary of a round, acceptance, cost model, methods
control      policies and the registry of cells
telemetry    logs
errors, ids, settings
"""
