"""The one exception of the training commands.

It knows nothing of what went wrong; its text says what is wrong and how to mend it, and the
commands print it as one line, without a traceback.
"""

from shared.errors import ShortstackError


class TrainingError(ShortstackError):
    """An input that the user can mend: a path, a setting, a file."""

    status = "INVALID_ARGUMENT"
    http_status = 400
