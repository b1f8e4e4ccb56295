"""Control state in Redis: what outlives a session and is shared by cells. Never on the decode path.

    store           ControlStore: one try of every operation; no exception leaves it
    guarded_redis   the connection: outcomes, breaker, counters
    scripts         what runs inside Redis, atomically
    keys            all keys, tenants hashed
    session_state   what a conversation leaves to its next turn
    prior_counts    counts by kind of text, for what a new session begins with
    prior_queue     counts on their way, summed up while Redis is away
    costs           measured costs for the warm start of an equal machine
    arms            what an operator orders, the kill switch above all
    stored_session  one session's right to its state: claimed once, in the background
    stream_queue    records of task streams on their way
    write_behind    states on their way, the last one of every session
    schedule        when a session's evidence is written

The schema is told in docs/redis.md.
"""
