"""What a Prometheus and a kubelet's probes are answered."""

from __future__ import annotations

import asyncio

import pytest

from kubeedge.kit.http1 import Request
from kubeedge.metrics.module import MetricsServer


def asked(method: str, target: str) -> Request:
    return Request(method, target, [], lambda _: None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/metrics", 200, b"up 1\n"),
        ("GET", "/healthz", 200, b"ok\n"),
        ("GET", "/readyz", 503, b"not ready: hub, relay\n"),
        ("GET", "/", 404, None),
        ("POST", "/readyz", 404, None),
    ],
)
def test_what_is_answered(method: str, path: str, status: int, text: bytes | None) -> None:
    server = MetricsServer("127.0.0.1", 0, lambda: "up 1\n", waiting=lambda: ["hub", "relay"])
    answer = asyncio.run(server.handle(asked(method, path)))
    assert answer.status == status and text in (None, answer.body)


def test_it_is_ready_when_nothing_is_waited_for() -> None:
    waiting = ["hub"]
    server = MetricsServer("127.0.0.1", 0, str, waiting=lambda: waiting)
    request = asked("GET", "/readyz")
    assert asyncio.run(server.handle(request)).status == 503
    waiting.clear()
    assert asyncio.run(server.handle(request)).status == 200
