"""Module "mappers": one process for all mappers of `modules.devices.mappers`, started again when it ends (ADR 86).

Lives elsewhere: the process itself (mapper/several.py), which ends when its standard input does, and so never outlives this one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from kubeedge.kit.backoff import Backoff
from kubeedge.kit.helper_process import command

log = logging.getLogger("kubeedge.devices")

_AGAIN = Backoff(1.0, 60.0)
_LONG = 60.0  # seconds after which a process that ends had been well
_PATIENCE = 5.0  # seconds for it to close its devices
_OOM_SCORE = "500"  # where memory runs out it goes before the agent, as a container does


class MapperProcess:
    """`argv`: the program and its arguments (argv_of)."""

    name = "mappers"

    def __init__(self, argv: Sequence[str], *, again: Backoff = _AGAIN) -> None:
        self.pid = 0  # 0: there is none now
        self._argv = argv
        self._again = again

    async def run(self, ready: asyncio.Event) -> None:
        """Ready when it has been started once: what its devices are like is theirs to say."""
        loop, failures = asyncio.get_running_loop(), 0
        while True:
            began = loop.time()
            status = await self._once(ready)
            failures = 1 if loop.time() - began > _LONG else failures + 1
            delay = self._again.delay(failures)
            log.warning("mappers: the process has ended with status %d; started again in %g s", status, delay)
            await asyncio.sleep(delay)

    async def _once(self, ready: asyncio.Event) -> int:
        # what it logs goes where our own lines go
        process = await asyncio.create_subprocess_exec(
            *self._argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
        )
        try:
            self.pid = process.pid
            with contextlib.suppress(OSError):  # it may be gone already
                Path(f"/proc/{process.pid}/oom_score_adj").write_text(_OOM_SCORE)
            ready.set()
            return await process.wait()
        finally:
            self.pid = 0
            if process.returncode is None:
                await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
        try:
            async with asyncio.timeout(_PATIENCE):
                await process.wait()
        except TimeoutError:
            process.kill()
    await process.wait()


def argv_of(protocols: Sequence[str], broker: str, login: Mapping[str, Path | str | None] | None = None) -> list[str]:
    """The command line of a process for these protocols, at that broker; `login`: the options with which it logs in, without their dashes."""
    options = [f"--{name}={value}" for name, value in (login or {}).items() if value]
    return command("kubeedge", "mapper", "several", "--until-stdin-ends", f"--broker={broker}", *options, *protocols)
