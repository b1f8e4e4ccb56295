"""The search for skip sets of method `swift`, while serving (arXiv:2410.06916). Pure, no tensors.

    search_options   its constants
    stream_record    what one task stream knows: its set, phase, counts, observations, library
    candidates       which sets challenge the one in use
    set_search       challengers and incumbent on the same windows: adopt, lock, re-open
    bayes            every 25th candidate: a Gaussian process (scikit-learn, imported when asked)
    task_stream      a record, its search, and the set that its sessions draft with
    stream_book      the streams of a cell, of which few sets are live at a time
    windows          which committed tokens sets are scored by
    search_budget    the share of time that a search may take

Scores come from outside: who runs the model is the verify worker (`services.verify.set_search`).
"""
