"""How exec and attach ended, as a Status (meta/v1), which the client gets on its stream "error". Pure."""

from __future__ import annotations

import json
from typing import Any


def encoded_status(status: dict[str, Any]) -> bytes:
    """A Status object as JSON, the way the error stream carries it."""
    return json.dumps(status, separators=(",", ":")).encode()


def told_as_text(status: dict[str, Any]) -> bytes:
    """As versions before v4 tell the end: nothing is success."""
    return b"" if status.get("status") == "Success" else str(status.get("message", "")).encode()


def success() -> dict[str, Any]:
    """The Status of a command that exited with 0."""
    return {"metadata": {}, "status": "Success"}


def exited(code: int) -> dict[str, Any]:
    """The Status of a process that has ended with that exit status."""
    if code == 0:
        return success()
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def failed(message: str) -> dict[str, Any]:
    """The Status of a command that could not be started, or was cut off."""
    return {"metadata": {}, "status": "Failure", "message": message, "reason": "InternalError", "code": 500}
