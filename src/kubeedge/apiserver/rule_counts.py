"""What the statuses of Rules count: one write a second for each rule, added to what is there.

Counts of a process that dies within that second are lost; none is written twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from kubeedge.api import rules
from kubeedge.api.names import Object, TenantId
from kubeedge.api.status import ObjectNotFound
from kubeedge.errors import KubeEdgeError

log = logging.getLogger("kubeedge.apiserver")

_ERRORS = 5  # that a status keeps
_PAUSE = 1.0  # seconds between two writes of a status


class RuleObjects(Protocol):
    """The rules of one tenant, wherever its API is."""

    @property
    def tenant(self) -> TenantId:
        """The tenant whose rules they are."""
        ...

    async def rules(self, namespace: str) -> Sequence[Object]:
        """Those of a namespace as they are now; of very many the first."""
        ...

    async def endpoint(self, namespace: str, name: str) -> Object:
        """The RuleEndpoint of that name. Raises ObjectNotFound."""
        ...

    async def count(self, namespace: str, name: str, change: Callable[[Object], Object]) -> None:
        """Write the status that `change` gives a Rule. Raises ObjectNotFound."""
        ...


class RuleCounts:
    """Of the rules of all tenants."""

    def __init__(self) -> None:
        self._counts: dict[tuple[TenantId, str, str], _Counts] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def note(self, objects: RuleObjects, key: tuple[TenantId, str, str], failure: str, *, counts: bool = True) -> None:
        """Count a message of that rule; `failure` "": it has arrived. Not `counts`: it is only told, for it is tried again."""
        waiting = self._counts.get(key)
        if waiting is None:
            waiting = self._counts[key] = _Counts()
            task = asyncio.create_task(self._write(objects, key, waiting), name="status of a rule")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        waiting.note(failure, counts)

    async def _write(self, objects: RuleObjects, key: tuple[TenantId, str, str], counts: _Counts) -> None:
        """What has been counted, one write after the other while there is something."""
        _, namespace, name = key
        try:
            while counts.waiting:
                change = counts.take()
                try:
                    await objects.count(namespace, name, change)
                except ObjectNotFound:
                    return
                except (OSError, KubeEdgeError) as exc:
                    log.warning("status of rule %s/%s: some calls are not counted: %s", namespace, name, exc)
                await asyncio.sleep(_PAUSE)
        finally:
            del self._counts[key]


class _Counts:
    """Calls of one rule that its status does not have yet."""

    def __init__(self) -> None:
        self._successes = self._failures = 0
        self._errors: list[str] = []

    @property
    def waiting(self) -> bool:
        return self._successes + self._failures > 0 or bool(self._errors)

    def note(self, failure: str, counts: bool) -> None:
        if failure:
            self._failures += counts
            self._errors = [*self._errors, failure[:256]][-_ERRORS:]
        else:
            self._successes += 1

    def take(self) -> Callable[[Object], Object]:
        successes, failures, errors = self._successes, self._failures, self._errors
        self._successes, self._failures, self._errors = 0, 0, []
        return lambda old: rules.counted(old, successes, failures, errors, _ERRORS)
