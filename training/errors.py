"""The one exception of the training commands.

It knows nothing of what went wrong; its text says what is wrong and how to mend it, and the
commands print it as one line, without a traceback.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class TrainingError(Exception):
    """An input that the user can mend: a path, a setting, a file."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the process with one line on stderr and status 1 for a TrainingError."""
    try:
        yield
    except TrainingError as error:
        print(f"shortstack train: {error}", file=sys.stderr)
        sys.exit(1)
