"""nfs: a directory of a server, mounted by the machine's own mount(8) and mount.nfs, as the kubelet does it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from pathlib import Path

from kubeedge.appengine.runtime import mounts
from kubeedge.appengine.volumes.base import NotMounted, VolumeContext

TIMEOUT = 60.0  # seconds for a server to answer; then the pod waits, and it is tried again
_MAX_MESSAGE = 1024  # bytes that are kept of what mount says


class NfsVolume:
    """An export of a server. What is written to it is the server's; here nothing is deleted."""

    read_only = False

    def __init__(self, context: VolumeContext) -> None:
        source = context.spec.source
        self._directory = context.directory
        self._server, self._path = str(source.get("server") or ""), str(source.get("path") or "")
        self._options = (*context.mount_options, *(("ro",) if context.spec.read_only else ()))

    def command(self) -> list[str]:
        """The command line that mounts it."""
        server = f"[{self._server}]" if ":" in self._server else self._server
        options = ["-o", ",".join(self._options)] if self._options else []
        return ["mount", "-t", "nfs", *options, "--", f"{server}:{self._path}", str(self._directory)]

    async def attach(self) -> str:
        """Mounts it. Raises NotMounted with the words of mount(8), or after TIMEOUT."""
        if self.recover():
            return ""
        self._directory.mkdir(parents=True, exist_ok=True)
        if problem := await run(self.command()):
            raise NotMounted(f"{self._server}:{self._path}: {problem}")
        return ""

    async def detach(self) -> None:
        """Lazily: a server that is gone holds nobody back."""
        self.unmount()

    @property
    def path(self) -> Path:
        """Where it is mounted."""
        return self._directory

    def mount(self) -> Path:
        """Where it was mounted. Raises NotMounted."""
        if not self.recover():
            raise NotMounted(f"{self._server}:{self._path} is not mounted")
        return self._directory

    def recover(self) -> bool:
        """Whether it is mounted; the server is not asked."""
        return mounts.is_mounted(self._directory)

    def refresh(self) -> None:
        """Does nothing: such a volume has no objects that could change."""

    def over_limit(self) -> str:
        """Never: its size is the server's."""
        return ""

    def unmount(self) -> None:
        """Never recursive: behind a mount that did not go away is somebody's data."""
        mounts.unmount(self._directory)
        with contextlib.suppress(OSError):
            self._directory.rmdir()


async def run(command: list[str]) -> str:
    """Runs a program that mounts; what is wrong, "" for success. It is killed when it hangs, or when the caller is cancelled."""
    if shutil.which(command[0]) is None:
        return f"{command[0]} is not on this node"
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        async with asyncio.timeout(TIMEOUT):
            said = await process.stderr.read(_MAX_MESSAGE)
            while await process.stderr.read(_MAX_MESSAGE):
                pass
            status = await process.wait()
    except TimeoutError:
        return f"no answer within {TIMEOUT:g} s"
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # mount(8) has others work for it
            await process.wait()
    if status == 0:
        return ""
    return " ".join(said.decode(errors="replace").split()) or f"{command[0]} ended with status {status}"
