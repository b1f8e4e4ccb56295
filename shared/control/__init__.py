"""Control: policies (pure) and the registry of cells (Redis).

policies/   what a session does in its next round
registry    which cells can be routed to, by leases
"""
