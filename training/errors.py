"""The one exception of the training commands.

It knows nothing of what went wrong; its text says what is wrong and how to mend it, and the
commands print it without a traceback.
"""

import sys
from collections.abc import Callable


class TrainingError(Exception):
    """An input that the user can mend: a path, a flag, a file."""


def run_command(main: Callable[[], None]) -> None:
    """Run a command; print a TrainingError as one line and end with status 2."""
    try:
        main()
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
