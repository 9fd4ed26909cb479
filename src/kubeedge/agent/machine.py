"""Whether it is the machine that ends, or the agent alone."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from pathlib import Path

#: what ends a machine that has no systemd writes it (firmware-images/files/stop)
STOPS = Path("/run/machine-stops")
_TIMEOUT = 10.0  # seconds; systemd is busy just then


async def shuts_down() -> bool:
    """What systemd says, or the script of a machine without it. Otherwise an agent that is stopped is just that: its containers go on."""
    if STOPS.exists():
        return True
    program = shutil.which("systemctl")
    if program is None:
        return False
    process = await asyncio.create_subprocess_exec(
        program, "is-system-running",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        async with asyncio.timeout(_TIMEOUT):
            said = await process.stdout.read(64)
            await process.wait()
    except TimeoutError:
        return False
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return said.strip() == b"stopping"
