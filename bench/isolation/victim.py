"""What a tenant does all day, each as a process in a host of the bench, at a steady pace: requests of the API, and published pages.

    python -m bench.isolation.victim api KUBECONFIG ADDRESS COUNT PACE     a kubectl after the other: connect, make, read, list, delete
    python -m bench.isolation.victim pages ADDRESS PATH COUNT PACE         a browser after the other: connect, one page

Each prints {"times": [milliseconds], "failed": [what went wrong]}. Time runs from the moment at which a request was due, so that
one that waits for the one before it counts as well.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import sys
import time
from collections.abc import Callable, Iterator

from tests.kit.bodies import DEFAULT, JSON, ask, connection

Request = Callable[[], int]  # the status of its answer
TIMEOUT = 20.0  # seconds


class Paced:
    """Requests that are due one after the other, `pace` seconds apart."""

    def __init__(self, pace: float) -> None:
        self._pace = pace
        self._due = time.monotonic()
        self.times: list[float] = []
        self.failed: list[str] = []

    def run(self, what: str, expected: int, request: Request) -> None:
        self._due += self._pace
        time.sleep(max(0.0, self._due - time.monotonic()))
        try:
            if (status := request()) != expected:
                self.failed.append(f"{what}: {status}")
        except (OSError, http.client.HTTPException) as exc:
            self.failed.append(f"{what}: {type(exc).__name__} {exc}")
        self.times.append((time.monotonic() - self._due) * 1000)


def api(kubeconfig: str, address: str, count: int, pace: float) -> Paced:
    found = Paced(pace)
    for number in range(count // 4):
        link = connection(kubeconfig, address)  # connects with the first request
        link.timeout = TIMEOUT
        for what, expected, request in _objects(link, f"w{number}"):
            found.run(what, expected, request)
        link.close()
    return found


def _objects(link: http.client.HTTPSConnection, name: str) -> Iterator[tuple[str, int, Request]]:
    body = json.dumps({"metadata": {"name": name}, "data": {"a": "b"}}).encode()
    yield "create", 201, lambda: ask(link, "POST", f"{DEFAULT}/configmaps", body, JSON)
    yield "get", 200, lambda: ask(link, "GET", f"{DEFAULT}/configmaps/{name}", b"", JSON)
    yield "list", 200, lambda: ask(link, "GET", f"{DEFAULT}/configmaps", b"", JSON)
    yield "delete", 200, lambda: ask(link, "DELETE", f"{DEFAULT}/configmaps/{name}", b"", JSON)


def pages(address: str, path: str, count: int, pace: float) -> Paced:
    found = Paced(pace)
    for _ in range(count):
        found.run("page", 200, lambda: _page(address, path))
    return found


def _page(address: str, path: str) -> int:
    with contextlib.closing(http.client.HTTPConnection(address, 8080, timeout=TIMEOUT)) as link:
        link.request("GET", path)
        answer = link.getresponse()
        answer.read()
        return answer.status


if __name__ == "__main__":
    do = {"api": api, "pages": pages}[sys.argv[1]]
    told = do(sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5]))
    print(json.dumps({"times": told.times, "failed": told.failed}))
