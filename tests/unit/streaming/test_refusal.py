"""What an API server makes of a refused upgrade: it tries the body as a Status first, in JSON and in YAML."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from kubeedge.errors import Unavailable
from kubeedge.streaming.refusal import refused
from kubeedge_cloud.kubelets.requests import unreachable


def read_as_status(body: bytes) -> Any:
    try:
        return yaml.safe_load(body)
    except yaml.YAMLError:
        return None


@pytest.mark.parametrize(
    "message",
    [
        "node edge1 cannot be reached: no link to edge1",
        "node edge1 cannot be reached: [Errno 111] connection refused: 10.0.0.1",
        "64 sessions are open: close some of them",
        'a: "b"',
        '"a": b',
        "ends with:",
        "first: line\nsecond: line",
        "# : no comment",
        "{a: b}",
        "[a: b]",
        "you must specify at least 1 of stdin, stdout, stderr",
    ],
)
def test_no_refusal_is_a_status_in_which_nothing_stands(message: str) -> None:
    """`kubectl exec` would end with "error stream protocol error: unknown error"."""
    for answer in (refused(503, message), unreachable("edge1", Unavailable(message))):  # type: ignore[arg-type]
        assert isinstance(answer.body, bytes) and message.encode() in answer.body and b"\n" == answer.body[-1:]
        assert not isinstance(read_as_status(answer.body), dict)
    assert refused(503, message, [("connection", "close")]).headers[-1] == ("connection", "close")
