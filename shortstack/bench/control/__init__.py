"""How well rounds are decided: recorded texts, replayed under every policy, and the live proof.

options           what the commands share of their options

record_tapes      `shortstack bench record-tapes`
record            plain decoding, then every exit along the text (torch)
tape_file         a recorded text in a file (numpy)

policies_command  `shortstack bench policies`
measure           what steps take on this machine, in this process (torch)
costs_file        the same as JSON
sessions          sessions to replay, made of recorded texts
contenders        who takes part, by name
plays             sessions played, and their figures
load_steps        load that rises and falls
evaluate          all scenarios
acceptance        what is required of `goodput`, and whether it was met
replay_report     all of it as one value, and its JSON
replay_view       tables for a terminal
replay_plot       bars for a picture

live_command      `shortstack bench policies-live`
live              a real stack under static settings and policies
live_figures      what its samples add up to
live_report       all of it as one value, its JSON and its lines
"""
