"""Errors of the command line and the local stack; what a server reports is in `shared.errors`.

CommandError            one clear line for the user, then the exit status it carries
├── UsageError          2   the arguments cannot be carried out as given
└── StackError          1   the local stack did not come up or did not stay up
"""

from typing import ClassVar


class CommandError(Exception):
    """A command cannot go on; its text is for the user, its trace is not."""

    exit_status: ClassVar[int] = 1


class UsageError(CommandError):
    """An argument that cannot be: a missing directory, options that exclude each other."""

    exit_status = 2


class StackError(CommandError):
    """A process of the local stack died or was not ready in time."""


class Stopped(Exception):
    """A stop signal came; everything the command had started has been taken down."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"signal {signal_number}")
        self.exit_status = 128 + signal_number
