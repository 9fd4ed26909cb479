"""How a command fails: what went wrong, and what to do next."""

from __future__ import annotations

import sys

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


def tell(exc: Exception, command: str) -> int:
    """Says on stderr why `command` failed and what to do next; the exit status. Raises `exc` when it is a mistake in our code."""
    if not isinstance(exc, KubeEdgeError | OSError):
        raise exc
    print(f"{command}: {_line(exc)}", file=sys.stderr)
    for advice in getattr(exc, "__notes__", ()):
        print(f"next: {_line(advice)}", file=sys.stderr)
    return int(getattr(exc, "exit_status", 1))


def _line(text: object) -> str:
    """One line, and nothing that a terminal would obey: parts of it may come from the other side."""
    return "".join(c if c.isprintable() else " " for c in str(text).strip())
