"""Module "certificates" of the cloud: the server certificate, made when its names change and renewed while the process runs.

TLS contexts that were handed out get the new pair in place: the next handshake uses it, existing connections continue.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import ssl
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

from kubeedge.pki import trust
from kubeedge.pki.identity import CloudIdentity
from kubeedge_cloud.authority.ca import Authority

log = logging.getLogger("kubeedge.certificates")

_LOOK = 10.0  # seconds
_LOOKS = 2160  # until its end is looked at again: a certificate is renewed months before


class ServerCertificate:
    """Writes cloud.crt and cloud.key into `directory`, at once. `renewed` is for users of the files that hold no context."""

    name = "certificates"

    def __init__(
        self,
        authority: Authority,
        directory: Path,
        hosts: Sequence[str],
        *,
        name: str = "cloud",
        renewed: Callable[[], object] = lambda: None,
    ) -> None:
        self._authority = authority
        self._identity = CloudIdentity(name)
        self._hosts = tuple(hosts)
        self._renewed = renewed
        self._contexts: weakref.WeakSet[ssl.SSLContext] = weakref.WeakSet()
        self.cert, self.key = directory / "cloud.crt", directory / "cloud.key"
        self._write()

    def context(self, *, mutual: bool, minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
        """`mutual`: every client must show a certificate of our authority. kubectl of old speaks TLSv1_2."""
        return self.context_for(self._authority.certificate_file if mutual else None, minimum=minimum)

    def context_for(self, client_ca: Path | None, *, minimum: ssl.TLSVersion) -> ssl.SSLContext:
        """Every client must show a certificate of that authority; None: no client shows one. Raises OSError for a file that is none."""
        context = trust.server_context(self.cert, self.key, client_ca=client_ca, minimum=minimum)
        self._contexts.add(context)
        return context

    def refresh(self) -> bool:
        """Renew when it is time; whether it was."""
        if not self._write():
            return False
        for context in self._contexts:
            context.load_cert_chain(self.cert, self.key)
        self._renewed()
        return True

    async def run(self, ready: asyncio.Event) -> None:
        """Renews the certificate when it nears its end, which is checked every six hours; and within seconds when the clock was set back to a
        time before its beginning: no node would take it."""
        ready.set()
        for look in itertools.count():
            if (look % _LOOKS == 0 or self._authority.begins_later(self.cert)) and self.refresh():
                log.info("renewed the server certificate for %s", ", ".join(self._hosts))
            await asyncio.sleep(_LOOK)

    def _write(self) -> bool:
        return self._authority.write_pair(self.cert, self.key, self._identity, client=True, hosts=self._hosts)
