"""Evidence: what every exit showed along the positions that a session committed. Pure.

observation         one round's reads, position by position
tape_ring           the last positions of a session, for replay
virtual_rounds      each exit's own rounds along the tape: counts by place
prior               what is believed of a session before it showed anything
survival            counts and belief together: the chance that j drafts in a row are kept
branch_counts       what siblings of drafts would have brought
change_alarm        the text has changed
saved_counts        a session's counts as bytes, for its next turn
session_evidence    all of it for one session
sampling_class      greedy, cool, warm: priors are kept for each
shadow_pace         how often exits that do not draft can be read
shadow_schedule     in which rounds of a session they are
local_prior         what the sessions of a cell showed
evidence_book       all sessions of a cell
"""
