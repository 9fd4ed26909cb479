"""Module "devicescans": a scan that the cloud asks for runs in a process of its own, one at a time; what was found goes to the cloud.

Lives elsewhere: how devices are found (kubeedge.mapper.scan, which the process loads, and the agent does not).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

from kubeedge.api import keys
from kubeedge.devices.scans import core
from kubeedge.devices.scans.core import ScanOrder
from kubeedge.errors import Invalid, Unavailable
from kubeedge.kit.helper_process import command
from kubeedge.store.model import Delete, Op, Put, Store
from kubeedge.store.reflector import read_all, reflect

log = logging.getLogger("kubeedge.devices")

_DESIRED = f"{keys.DESIRED}scans/"
_FOUND = f"{keys.REPORTED}discoveries/"
_STATUS = keys.reported("scans", "", "scan")
_MAX_OUTPUT = 512 * 1024  # bytes that the process may say
_LONGER = 60.0  # seconds that it has besides those of the scan, to start and to end on a small machine
_RETRY = 5.0  # seconds, on a full disk


class DeviceScans:
    """`wall` gives seconds since 1970."""

    name = "devicescans"

    def __init__(self, store: Store, *, wall: Callable[[], float]) -> None:
        self._store = store
        self._wall = wall
        self._turn = asyncio.Lock()  # of writers of discoveries

    async def run(self, ready: asyncio.Event) -> None:
        """Ready at once: nobody waits for it."""
        done = await self._store.get(_STATUS)
        last, state = _said(done.value) if done is not None else ("", "")
        ready.set()
        if state == "running":  # it ended with the agent, and whoever waits for it would wait for ever
            errors = {"scan": "the agent was started anew meanwhile"}
            await self._write([Put(_STATUS, core.status(last, "done", errors=errors))])
        async with aclosing(reflect(self._store, _DESIRED)) as changes:
            async for values, _ in changes:
                for value in list(values.values()):
                    last = await self._look(value, last)

    async def _look(self, value: bytes, last: str) -> str:
        """The id of the last scan that was dealt with."""
        try:
            order = core.order(value)
        except Invalid as exc:
            log.warning("a scan that cannot be made: %s", exc)
            return last
        if order.id == last or self._now() > order.until:
            return last
        await self._write([Put(_STATUS, core.status(order.id, "running"))])
        found: list[str] = []
        try:
            answer = await self._scan(order)
            errors = answer.get("errors") if isinstance(answer.get("errors"), dict) else {}
            found = await self.found(answer.get("findings"))
        except (Invalid, OSError, Unavailable) as exc:
            errors = {"scan": str(exc) or "it did not end in time"}
        errors = {str(name): str(why) for name, why in (errors or {}).items()}
        await self._write([Put(_STATUS, core.status(order.id, "done", found, errors))])
        return order.id

    async def found(self, findings: Any) -> list[str]:
        """The names of what was found, once it is on the disk. Raises Invalid for what are no findings, Unavailable on a full disk."""
        now = self._now()
        new = core.discoveries(findings, now)
        async with self._turn:
            rows = {keys.split(key)[2]: value for key, value in (await read_all(self._store, _FOUND)).items()}
            ops: list[Op] = [Delete(keys.reported("discoveries", "", name)) for name in core.outdated(rows, new, now)]
            ops += [Put(keys.reported("discoveries", "", name), value) for name, value in new.items()]
            if ops:
                await self._store.txn((), ops)
        return sorted(new)

    async def _scan(self, order: ScanOrder) -> dict[str, Any]:
        """What the process says. Raises OSError, TimeoutError included, and Unavailable."""
        argv = command("kubeedge", "devices", "scan", "--dry-run", "--output", "json", *order.arguments)
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=asyncio.subprocess.DEVNULL, limit=_MAX_OUTPUT
        )
        try:
            assert process.stdout is not None
            async with asyncio.timeout(order.seconds + _LONGER):
                text = b""
                while part := await process.stdout.read(_MAX_OUTPUT):
                    text += part
                    if len(text) > _MAX_OUTPUT:
                        raise Unavailable(f"the scan says more than {_MAX_OUTPUT} bytes")
                status = await process.wait()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        try:
            found = json.loads(text)  # also with status 1, when a finder has failed
        except (ValueError, RecursionError) as exc:
            if status:
                raise Unavailable(f"the scan ended with status {status}: are its networks and adapters there?") from exc
            raise Unavailable("what the scan says is no JSON") from exc
        return found if isinstance(found, dict) else {}

    async def _write(self, ops: list[Op]) -> None:
        while True:
            try:
                await self._store.txn((), ops)
                return
            except Unavailable as exc:
                log.warning("a scan cannot be reported yet: %s", exc)
                await asyncio.sleep(_RETRY)

    def _now(self) -> int:
        return int(self._wall() * 1000)


def _said(value: bytes) -> tuple[str, str]:
    """(id, state) of the last scan."""
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        found = None
    found = found if isinstance(found, dict) else {}
    return str(found.get("id") or ""), str(found.get("state") or "")
