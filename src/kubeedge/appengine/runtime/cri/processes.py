"""Processes and ports in containers behind a CRI socket: exec, attach, port-forward."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any

from kubeedge.appengine.runtime.base import EXEC_OUTPUT, ExecResult, NotRunning, StartError
from kubeedge.appengine.runtime.cri import streams
from kubeedge.appengine.runtime.cri.client import QUICK, CriClient
from kubeedge.appengine.runtime.cri.runs import CriRuns
from kubeedge.appengine.runtime.cri.sandboxes import CriSandboxes
from kubeedge.errors import PeerError
from kubeedge.kit.grpc import DEADLINE_EXCEEDED, GrpcError


class CriProcesses:
    """The runtime answers with a URL, and the streams are behind it."""

    def __init__(self, client: CriClient, runs: CriRuns, sandboxes: CriSandboxes) -> None:
        self._client = client
        self._runs = runs
        self._sandboxes = sandboxes

    async def exec_sync(self, id: str, command: Sequence[str], timeout: float) -> ExecResult:
        """Limited to whole seconds on the runtime's side, which ends the command."""
        if self._runs.running(id) is None:
            return ExecResult(126, b"the container does not run")
        try:
            answer = await self._client.call(
                "ExecSync", within=timeout + QUICK, container_id=id, cmd=list(command), timeout=math.ceil(timeout)
            )
        except GrpcError as exc:
            if exc.code == DEADLINE_EXCEEDED or "timeout" in str(exc) or "timed out" in str(exc):
                return ExecResult(124, b"no answer within %g s" % timeout)
            return ExecResult(126, str(exc).encode()[:EXEC_OUTPUT])
        output = answer.get("stdout", b"") + answer.get("stderr", b"")
        return ExecResult(int(answer.get("exit_code", 0)), output[:EXEC_OUTPUT])

    async def exec(
        self, id: str, command: Sequence[str], *, stdin: bool = False, tty: bool = False
    ) -> streams.CriStreams:
        """Over the streams that the runtime's URL leads to. Raises NotRunning, StartError."""
        if self._runs.running(id) is None:
            raise NotRunning(f"container {id} does not run")
        opened = await self._open(
            "Exec", container_id=id, cmd=list(command), stdin=stdin, tty=tty, stdout=True, stderr=not tty
        )
        return await streams.CriStreams(opened).open(stdin=stdin, tty=tty, resizes=tty)

    async def attach(self, id: str, *, stdin: bool = False) -> streams.CriStreams:
        """Over the streams that the runtime's URL leads to. Raises NotRunning, StartError."""
        run = self._runs.running(id)
        if run is None:
            raise NotRunning(f"container {id} does not run")
        stdin = stdin and run.stdin
        opened = await self._open("Attach", container_id=id, stdin=stdin, tty=run.tty, stdout=True, stderr=not run.tty)

        async def exit_status() -> int | None:
            await run.over.wait()
            return run.exit_code

        attached = streams.CriStreams(opened, exit_status=exit_status)
        return await attached.open(stdin=stdin, tty=run.tty, resizes=run.tty)

    async def port_forward(self, uid: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to a port of a pod, made by the runtime in the pod's network. Raises NotRunning or OSError."""
        if uid not in self._sandboxes:
            raise NotRunning(f"pod {uid} has no sandbox")
        try:
            answer = await self._client.call("PortForward", pod_sandbox_id=self._sandboxes.id_of(uid), port=[port])
            return await streams.forward(await streams.connect(str(answer.get("url", "")), "portforward.k8s.io"), port)
        except (GrpcError, PeerError) as exc:
            raise OSError(str(exc)) from exc

    async def _open(self, call: str, **fields: Any) -> Any:
        try:
            answer = await self._client.call(call, within=QUICK, **fields)
            return await streams.connect(str(answer.get("url", "")), "v4.channel.k8s.io")
        except (GrpcError, PeerError, OSError) as exc:
            raise StartError("Error", str(exc)) from exc
