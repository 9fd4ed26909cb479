"""What a rule needs before it connects and what takes a thread: the addresses of a name, and a TLS context.

Tenants choose names, and a name's own server may never answer: a lookup then takes a thread for half a minute, whoever has given up waiting for it. So there are
threads of their own for that, and a tenant has few of them. A context with the system's authorities takes 50 ms to make, and is the same for all.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import TypeVar

from kubeedge.errors import Invalid, Unavailable
from kubeedge_cloud.certificates import tenant_keypairs

_THREADS, _OF_TENANT = 16, 2
_MAX_CA = (
    64 * 1024
)  # bytes of authorities, of a certificate or a key in a Secret: they are read in one call, which nobody else can come between
_RENEWED = 3600.0  # seconds after which the system's authorities are read again

T = TypeVar("T")
_system: tuple[ssl.SSLContext, float] | None = None  # with the system's authorities, and until when


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="rules")


class RuleLookups:
    """The threads that the rules of one tenant may have at the same time, and what these find."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(_OF_TENANT)

    async def addresses(self, host: str, port: int) -> list[str]:
        """Those of a name, without doubles. Raises Unavailable."""
        try:
            infos = await self._in_thread(partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as exc:
            raise Unavailable(f"{host}: {exc}") from exc
        return list(dict.fromkeys(str(info[4][0]) for info in infos))

    async def context(self, ca: bytes | None, own: tuple[bytes, bytes] | None = None) -> ssl.SSLContext:
        """That verifies by these authorities, or by the system's; `own`: a certificate with its chain, and its key, which are shown to who asks. Raises
        Invalid for authorities that are none, and for a certificate and a key that do not go together."""
        global _system
        now = asyncio.get_running_loop().time()
        if not ca and own is None:
            if _system is None or now >= _system[1]:
                _system = await self._in_thread(_context), now + _RENEWED
            return _system[0]
        for name, part in zip(("ca.crt", "tls.crt", "tls.key"), (ca, *(own or ())), strict=False):
            if part is not None and len(part) > _MAX_CA:
                raise Invalid(f"{name} of the Secret is larger than {_MAX_CA} bytes")
        return await self._in_thread(partial(_context, ca, own))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """The share is taken until the thread is free again, also when nobody waits any more."""
        await self._turns.acquire()
        done = asyncio.get_running_loop().run_in_executor(_threads(), work)
        done.add_done_callback(self._ended)
        return await asyncio.shield(done)

    def _ended(self, done: asyncio.Future[T]) -> None:
        self._turns.release()
        if not done.cancelled():
            done.exception()  # perhaps nobody asks any more


def _context(ca: bytes | None = None, own: tuple[bytes, bytes] | None = None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=ca.decode("ascii") if ca else None)
    except (ssl.SSLError, ValueError) as exc:
        raise Invalid(f"ca.crt of the Secret cannot be used: {exc}") from exc
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if own is not None:
        try:
            tenant_keypairs.present(context, *own)
        except ValueError as exc:
            raise Invalid(f"the Secret: {exc}") from exc
    return context
