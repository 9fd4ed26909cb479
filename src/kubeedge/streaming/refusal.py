"""Answers to requests for exec, attach, port-forward and logs that an API server passes on to its user."""

from __future__ import annotations

from kubeedge.kit.headers import Headers
from kubeedge.kit.http1 import Response, text_response


def refused(status: int, message: str, headers: Headers = ()) -> Response:
    """Text, as a kubelet's. An API server tries the body of a refused upgrade as a Status in YAML: "node a is away: no link" is a map, hence a Status
    in which nothing stands, and `kubectl exec` ends with "unknown error". Two colons in the first line are no YAML."""
    if ":" in message:
        message = f"error: kubelet: {message}"
    return text_response(status, f"{message}\n", [*headers])
