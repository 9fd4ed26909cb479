"""Calls to an etcd cluster: any member may answer; who does not is left for the next one.

A read is tried at every member. A write is tried again only when it has certainly not been sent: an etcd that does not answer may
have committed it, and the caller has to look (its compares make repeating safe). Calls about leases have a shorter timeout than the others:
one member that is silent must not cost a process what hangs on its lease. Streams to a member that was left end, and begin at another.

The messages and stubs are those of aetcd; its client is not used: it knows one endpoint, and no progress or paging of watches.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# a child that is forked to run a program must not wait for the threads of grpc, which it does not have
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")

import grpc
import grpc.aio
from aetcd import rpc

from kubeedge.errors import Gone, Invalid, KubeEdgeError, Misuse, NotFound, Refused, Unavailable

log = logging.getLogger("kubeedge.etcd")

_NOT_SENT = ("failed to connect", "connection refused", "name resolution", "no route to host")


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcdSettings:
    """Where the etcd cluster is, and how long one of its members is waited for."""

    endpoints: Sequence[str]  # "host:port"
    ca: Path | None = None  # with it TLS; without, plain TCP, which is for one machine and for tests
    cert: Path | None = None
    key: Path | None = None
    namespace: str = "/kubeedge"  # in front of every key: others may use the same cluster
    timeout: float = 5.0  # seconds for one call to one member
    lease_timeout: float = 0.5  # seconds for one renewal at one member: it is in the memory of etcd's leader
    grant_timeout: float = 2.0  # seconds for a new lease at one member: it is on the disks of most of them
    keep_revisions: int = 20_000  # history that compaction leaves; 0: we never compact
    history_bytes: int = 64 * 1024 * 1024  # of one tenant: beyond, history is compacted sooner
    compact_interval: float = 60.0  # seconds
    compact_soon: float = 5.0  # seconds until it is done when a tenant has more bytes than it may


class ClusterBusy(Unavailable):
    """The cluster has no space left or is overloaded; another member would answer the same."""


class EtcdMembers:
    """One gRPC channel for each member. Raises Invalid without endpoints."""

    def __init__(self, settings: EtcdSettings) -> None:
        if not settings.endpoints:
            raise Invalid("etcd needs at least one endpoint")
        self._timeout = settings.timeout
        self._channels = [_channel(endpoint, settings) for endpoint in settings.endpoints]
        self._endpoints = tuple(settings.endpoints)
        self._current = 0
        self._streams: dict[Any, int] = {}  # calls that are open, and to whom

    async def close(self) -> None:
        """Closes the channels; calls that are still open fail."""
        for channel in self._channels:
            await channel.close()

    async def call(
        self, service: Any, method: str, request: Any, *, repeatable: bool, timeout: float | None = None
    ) -> Any:
        """One unary call; `timeout` is for each member. Raises Unavailable when no member answers, and the errors of translate()."""
        error: KubeEdgeError = Unavailable("no etcd member was asked")
        for _ in range(len(self._channels)):
            member = self._current
            try:
                stub = getattr(service(self._channels[member]), method)
                return await stub(request, timeout=timeout or self._timeout)
            except grpc.aio.AioRpcError as exc:
                error = translate(exc)
                if not isinstance(error, Unavailable) or isinstance(error, ClusterBusy):
                    raise error from exc
                self._leave(member, error)
                if not repeatable and not _was_not_sent(exc):
                    raise error from exc
        raise error

    @contextlib.asynccontextmanager
    async def stream(self, service: Any, method: str, *requests: Any) -> AsyncIterator[AsyncIterator[Any]]:
        """A call with a stream both ways; what is asked is known at once."""
        member = self._current
        done = asyncio.Event()

        async def ask() -> AsyncIterator[Any]:
            for request in requests:
                yield request
            await done.wait()

        call = getattr(service(self._channels[member]), method)(ask())
        self._streams[call] = member
        try:
            yield call
        except grpc.aio.AioRpcError as exc:
            error = translate(exc)
            if isinstance(error, Unavailable) and not isinstance(error, ClusterBusy):
                self._leave(member, error)
            raise error from exc
        except asyncio.CancelledError as exc:
            task = asyncio.current_task()
            if call in self._streams or (task and task.cancelling()):
                raise
            raise Unavailable("etcd: the member was left while it was to speak") from exc
        finally:
            self._streams.pop(call, None)
            done.set()
            call.cancel()

    async def first(self, service: Any, method: str, request: Any, *, timeout: float) -> Any:
        """The first answer of a stream; a member that does not give it in `timeout` seconds is left for the next one."""
        error: KubeEdgeError = Unavailable("no etcd member was asked")
        for _ in range(len(self._channels)):
            member = self._current
            try:
                async with asyncio.timeout(timeout), self.stream(service, method, request) as answers:
                    async for answer in answers:
                        return answer
                error = Unavailable("etcd: the stream ended without an answer")
            except TimeoutError:
                error = Unavailable(f"etcd: no answer within {timeout:g} s")
            except ClusterBusy:
                raise
            except Unavailable as exc:
                error = exc
            self._leave(member, error)
        raise error

    def _leave(self, member: int, error: Exception) -> None:
        if self._current == member and len(self._channels) > 1:
            self._current = (member + 1) % len(self._channels)
            log.warning("etcd member %s: %s; asking %s", self._endpoints[member], error, self._endpoints[self._current])
            for call in [call for call, at in self._streams.items() if at == member]:
                del self._streams[call]
                call.cancel()


def _channel(endpoint: str, settings: EtcdSettings) -> Any:
    options = [
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        ("grpc.keepalive_time_ms", 5_000),
        ("grpc.keepalive_timeout_ms", 3_000),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        ("grpc.enable_retries", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if settings.ca is None:
        return grpc.aio.insecure_channel(endpoint, options=options)
    try:
        read = [path.read_bytes() if path else None for path in (settings.ca, settings.key, settings.cert)]
    except OSError as exc:
        raise Invalid(f"etcd credentials: {exc.strerror}: {exc.filename}") from exc
    return grpc.aio.secure_channel(endpoint, grpc.ssl_channel_credentials(*read), options=options)


def _was_not_sent(exc: grpc.aio.AioRpcError) -> bool:
    details = (exc.details() or "").lower()
    return exc.code() is grpc.StatusCode.UNAVAILABLE and any(text in details for text in _NOT_SENT)


def translate(exc: grpc.aio.AioRpcError) -> KubeEdgeError:
    """What etcd's answer means here (etcd api/v3rpc/rpctypes)."""
    text = exc.details() or exc.code().name
    match exc.code():
        case grpc.StatusCode.OUT_OF_RANGE:
            return Gone(text) if "compacted" in text else Invalid(text)
        case grpc.StatusCode.NOT_FOUND:
            return NotFound(text)
        case grpc.StatusCode.INVALID_ARGUMENT if "too many operations" in text:
            return Invalid(f"{text}: start etcd with --max-txn-ops=4096")
        case grpc.StatusCode.INVALID_ARGUMENT if "too large" in text:
            return Invalid(f"{text}: start etcd with --max-request-bytes=8388608")
        case grpc.StatusCode.INVALID_ARGUMENT:
            return Misuse(text)
        case grpc.StatusCode.PERMISSION_DENIED | grpc.StatusCode.UNAUTHENTICATED:
            return Refused(text)
        case grpc.StatusCode.RESOURCE_EXHAUSTED if "space" in text:
            return ClusterBusy(f"etcd: {text}: compact and defragment it, then `etcdctl alarm disarm`")
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return ClusterBusy(f"etcd: {text}")
    return Unavailable(f"etcd: {text}")


__all__ = ["EtcdMembers", "EtcdSettings", "rpc", "translate"]
