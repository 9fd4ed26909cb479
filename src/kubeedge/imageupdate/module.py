"""Module "imageupdate": updates this machine's image to the bundle that its Node names, and reports the condition ImageUpdated.

    kubectl annotate node cam7 kubeedge.io/image-update=https://example.com/kubeedge-tiny-0.2.0.bundle

The annotation stays: it says which image is wanted, and a machine that has it does nothing. The work is done by `kubeedge image-update` in a process of
its own, whose memory is not kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing

from kubeedge.api import keys
from kubeedge.errors import KubeEdgeError, Unavailable
from kubeedge.imageupdate import card
from kubeedge.imageupdate.core import Slots, UpdateOutcome
from kubeedge.imageupdate.source import MAX_URL
from kubeedge.kit import helper_process
from kubeedge.kit.backoff import Backoff
from kubeedge.kit.shown_url import shown_url
from kubeedge.store.model import Store
from kubeedge.store.reflector import PrefixView, follow_view

log = logging.getLogger("kubeedge.imageupdate")

ANNOTATION = "kubeedge.io/image-update"
CONDITION = "ImageUpdated"
REPORT = keys.reported("conditions", "", "imageupdate")
_RETRY = Backoff(60.0, 3600.0, jitter=0.5)
_SOON = 30.0  # seconds
_TELL = 10.0  # seconds for the report before the machine starts again
_MAX_OUTPUT = 64 * 1024  # bytes

#: a bundle's URL -> whether the machine has to start again for it. Raises KubeEdgeError
RunUpdate = Callable[[str], Awaitable[bool]]


class ImageUpdates:
    """Module "imageupdate": what the Node's annotation wants."""

    name = "imageupdate"

    def __init__(
        self,
        store: Store,
        node: str,
        *,
        chance: Callable[[], float],
        update: RunUpdate | None = None,
        restart: Callable[[], Awaitable[None]] | None = None,
        outcome: Callable[[], Slots | None] | None = None,
    ) -> None:
        """`chance`: see Backoff.delay; the others are this machine's."""
        self._store, self._chance = store, chance
        self._key = keys.desired("nodes", "", node)
        self._update = update or run_update
        self._restart = restart or run_restart
        self._outcome = outcome or last_outcome
        self._view = PrefixView(store, self._key, keep=wanted_url, wanted=lambda key: key == self._key)
        self._reported: bytes | None = None

    async def run(self, ready: asyncio.Event) -> None:
        """One update at a time; an annotation that changes ends the one before."""
        ready.set()
        await self._report_outcome()
        working: asyncio.Task[None] | None = None
        try:
            async for url in self._wanted():
                if working is not None:
                    working.cancel()
                    await asyncio.gather(working, return_exceptions=True)
                working = asyncio.create_task(self._follow(url), name="image update") if url else None
        finally:
            if working is not None:
                working.cancel()
                await asyncio.gather(working, return_exceptions=True)

    async def _wanted(self) -> AsyncIterator[str]:
        """The annotation's value, whenever it is another one."""
        last = ""
        async with aclosing(follow_view(self._view)) as steps:
            async for _ in steps:
                if (url := self._view.values.get(self._key, "")) != last:
                    last = url
                    yield url

    async def _follow(self, url: str) -> None:
        failures = 0
        while True:
            try:
                if not url.startswith(("http://", "https://")) or len(url) > MAX_URL:
                    raise Unavailable("the annotation is no URL, which begins with http:// or https://")
                if not await self._updated(url):
                    await self._report("True", "UpToDate", f"the image is that of {shown_url(url)}")
                    return
                await self._try_report("False", "Restarting", f"the image of {shown_url(url)} is tried")
                await asyncio.sleep(_TELL)
                await self._restart()
                return
            # too little memory for a process; a URL that no process can be given
            except (KubeEdgeError, OSError, ValueError) as exc:
                failures += 1
                log.warning("the image is not updated: %s", exc)
                await self._try_report("False", "Failed", str(exc))
                await asyncio.sleep(_RETRY.delay(failures, self._chance()))

    async def _updated(self, url: str) -> bool:
        """What takes no time is not worth a write to flash."""
        task = asyncio.ensure_future(self._update(url))
        try:
            await asyncio.wait({task}, timeout=_SOON)
            if not task.done():
                await self._try_report("False", "Updating", f"to {shown_url(url)}")
            return await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)  # its process has ended: the next one is alone

    async def _report_outcome(self) -> None:
        kv = await self._store.get(REPORT)
        self._reported = kv.value if kv else None
        slots = await asyncio.to_thread(self._outcome)
        if slots is None:
            return
        if slots.outcome is UpdateOutcome.GIVEN_UP:
            await self._report("False", "GivenUp", f"image {slots.images[slots.spare].version}: {slots.reason}")
        elif slots.trial is None:
            await self._report("True", "UpToDate", f"image {slots.images[slots.good].version}")

    async def _try_report(self, status: str, reason: str, message: str) -> None:
        """A full disk keeps no image from being tried, or tried again."""
        with contextlib.suppress(KubeEdgeError):
            await self._report(status, reason, message)

    async def _report(self, status: str, reason: str, message: str) -> None:
        condition = {"type": CONDITION, "status": status, "reason": reason, "message": message[:256]}
        value = json.dumps(condition, sort_keys=True, separators=(",", ":")).encode()
        if value != self._reported:
            await self._store.put(REPORT, value)
            self._reported = value


def wanted_url(value: bytes) -> str:
    """Of the row of a Node; "" for none."""
    with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return str((json.loads(value)["metadata"].get("annotations") or {}).get(ANNOTATION) or "")
    return ""


def last_outcome() -> Slots | None:
    """Of the last update of this machine; None where the card does not say."""
    with contextlib.suppress(KubeEdgeError, OSError), card.opened(write=False) as own:
        return own.record()
    return None


async def run_update(url: str) -> bool:
    """By `kubeedge image-update`, until it ends. Raises Unavailable with the last line that it has written."""
    command = helper_process.command("kubeedge", "image-update", "--no-restart", "--output", "json", "-")
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        process.stdin.write(f"{url}\n".encode())
        process.stdin.close()
        said, shown = await asyncio.gather(_end(process.stderr), _end(process.stdout))
        status = await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if status:
        lines = said.decode(errors="replace").strip().splitlines()
        raise Unavailable(lines[-1] if lines else f"kubeedge image-update ended with status {status}")
    return bool(json.loads(shown)["armed"])


async def run_restart() -> None:
    """The machine starts again. Raises Unavailable where it does not, OSError."""
    process = await asyncio.create_subprocess_exec("reboot")
    if status := await process.wait():
        raise Unavailable(f"the machine does not start again: reboot ended with status {status}")


async def _end(stream: asyncio.StreamReader) -> bytes:
    """The last bytes of what is written there."""
    kept = b""
    while data := await stream.read(4096):
        kept = (kept + data)[-_MAX_OUTPUT:]
    return kept
