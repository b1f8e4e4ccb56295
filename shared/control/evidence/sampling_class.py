"""Sampling classes: how often exits agree with the target differs between them. Pure.

What was counted under one class says little of another, so priors are kept for each.
"""

from shared.speculation.vocabulary import SamplingParams

GREEDY = "greedy"
COOL = "cool"
WARM = "warm"
SAMPLING_CLASSES = (GREEDY, COOL, WARM)
# The temperature up to which sampling is cool.
MAX_COOL = 0.7


def sampling_class_of(sampling: SamplingParams) -> str:
    """Return the class of a session's sampling: greedy, cool (T <= 0.7) or warm."""
    if sampling.is_greedy:
        return GREEDY
    return COOL if sampling.temperature <= MAX_COOL else WARM
