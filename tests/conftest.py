"""What holds for all tests."""

import gc
import os

from hypothesis import settings

# Before torch is imported, and for all processes that tests start: models this small are faster on
# one thread, and much faster where every core has tests to run.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# How long an example takes says more of what else the machine does than of the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# While tests are collected nothing becomes garbage, but a million objects are made to look through.
gc.disable()


def pytest_collection_finish() -> None:
    """From here on garbage is what tests leave behind."""
    gc.freeze()
    gc.enable()
