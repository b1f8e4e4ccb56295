"""Replay of control policies over recorded texts, at measured costs, by a virtual clock. Pure.

texts        recorded texts: tapes with a name and a kind, cut and joined
step_times   what draft phases and verify passes take, from measurements
swept_costs  the same as a process has them that has swept its own steps
rounds       one round of one session over its tape: what it keeps and what it shows
cell         sessions that share steps under a controller: the clock
controllers  what decides: a static setting, a policy per session, the governor
yardsticks   the best static setting, the same per session, and who knows the future
"""
