"""Seeing what the controller does.

values      sessions and their rounds as plain values, read from the wire
reasons     what each reason of a round means
view        the table of sessions
timeline    one session's rounds: stretches of one setting, smoothed acceptance
plot        the same as a picture
"""
