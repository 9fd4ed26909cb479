"""Whether a server still has the history that a watch is to go on from.

An etcd that was restored from a backup counts on from an older revision. A kube-apiserver takes a watch from a version that it has not reached
yet, and says nothing until it has: for hours, no pod would come and none would go. So the version of a watch that goes on is compared with one
that the server has now. That costs a short list now and then: what was seen counts until a connection breaks or is refused, for a server that lost
its history was stopped. (An informer that sees the stop lists again anyway; a load balancer may hide it. ADR 65.)

Versions are opaque elsewhere, and compared here alone: as numbers, which Kubernetes' are (and since 1.35 has said that they are). What is none is
taken for one that the server has.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict

from kubeedge.api.client import Resource


class ServerHistory:
    """Of one server, for all who ask it."""

    def __init__(self) -> None:
        #: one looks for all who watch a resource: thousands of watches go on at the same time
        self.looks: defaultdict[Resource, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._breaks = 0
        self._reached: dict[Resource, int] = {}

    @property
    def breaks(self) -> int:
        """To be read before a request whose answer is given to `reached`."""
        return self._breaks

    def broken(self) -> None:
        """A connection broke, or was refused: what was seen before does not count any more."""
        self._breaks += 1
        self._reached.clear()

    def reached(self, resource: Resource, version: str, breaks: int) -> None:
        """The server has that version of a resource; it was asked after so many breaks."""
        if breaks == self._breaks and (number := _number(version)) is not None:
            self._reached[resource] = max(number, self._reached.get(resource, 0))

    def has(self, resource: Resource, version: str) -> bool:
        """Whether the server is known to have reached that version."""
        number = _number(version)
        return number is None or number <= self._reached.get(resource, 0)


def precedes(one: str, other: str) -> bool:
    """Whether both are numbers, and `one` is the smaller."""
    first, second = _number(one), _number(other)
    return first is not None and second is not None and first < second


def _number(version: str) -> int | None:
    return int(version) if version.isascii() and version.isdigit() and len(version) <= 20 else None
