"""How a command fails: what went wrong, and what to do next. Light, for `kubeedge edge` keeps what it imports."""

from __future__ import annotations

from kubeedge.errors import KubeEdgeError


class CommandError(KubeEdgeError):
    """The command failed: `message` says why, `next` what the user can do."""

    exit_status = 1

    def __init__(self, message: str, next: str = "") -> None:
        super().__init__(message)
        if next:
            self.add_note(next)


class UsageError(CommandError):
    """The command line itself is wrong."""

    exit_status = 2
