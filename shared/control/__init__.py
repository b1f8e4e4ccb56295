"""Control: policies and turns (pure), the registry of cells and the store of control state (Redis).

policies/   what a session does in its next round
load_governor  how long each session drafts beside the others, by what steps were measured to take:
            step_costs (row_curve, pace), acceptance_book and _estimate, step_plan, plan_keeper,
            tree_plans, step_probes, arbiter, grants; steps: the values they speak in
row_budget  how many prompt rows ride along in a pass
overlap     whether drafting and verifying overlap, or all sessions share one batch
fair_queue  whose turn it is among items of several tenants; tenant_account: one of them
registry    which cells can be routed to, by leases
store/      what outlives a session: conversations' states, priors, costs, orders (Redis)
breaker     whether a peer that kept failing is called
"""
