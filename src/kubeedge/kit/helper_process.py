"""Short-lived Python processes for work whose libraries the agent must not keep in memory, such as making keys and certificates."""

from __future__ import annotations

import asyncio
import contextlib
import sys

from kubeedge.errors import Unavailable

_TIMEOUT = 120.0  # seconds
_MAX_MESSAGE = 4096  # bytes that are kept of what it writes to stderr


def command(module: str, *arguments: str) -> list[str]:
    """`python -m module arguments...`, with the optimisation of this process: an image has the bytecode of one level alone, and a helper of
    another one would compile all of its sources, in memory, and write the result where an image has its changes: in memory, too."""
    optimised = ["-" + "O" * sys.flags.optimize] if sys.flags.optimize else []
    return [sys.executable, *optimised, "-m", module, *arguments]


async def run(module: str, *arguments: str, purpose: str) -> None:
    """`python -m module arguments...`, until it ends; `purpose` is what it does, as in "that makes a certificate".

    Raises Unavailable with the last line that it wrote to stderr, or when it takes longer than two minutes. It is killed when the caller
    is cancelled.
    """
    process = await asyncio.create_subprocess_exec(
        *command(module, *arguments),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        async with asyncio.timeout(_TIMEOUT):
            message = await process.stderr.read(_MAX_MESSAGE)
            while await process.stderr.read(_MAX_MESSAGE):
                pass
            status = await process.wait()
    except TimeoutError as exc:
        raise Unavailable(f"the helper process {purpose} did not end within {_TIMEOUT:g} s") from exc
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if status:
        lines = message.decode(errors="replace").strip().splitlines()
        raise Unavailable(lines[-1] if lines else f"the helper process {purpose} ended with status {status}")
