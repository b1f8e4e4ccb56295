"""Errors of drills."""

from shortstack.errors import CommandError


class CannotRun(CommandError):
    """This machine lacks what a drill needs: it is skipped, with this word for it."""
