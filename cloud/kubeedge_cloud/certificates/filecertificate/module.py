"""TLS with the operator's own files, which another program renews: certbot, or cert-manager by way of a Secret.

Lives elsewhere: certificates of the cloud's own authority (module.py).
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import weakref
from pathlib import Path

from kubeedge.errors import Invalid
from kubeedge.pki import trust

log = logging.getLogger("kubeedge.certificates")

_LOOK = 5.0  # seconds between two looks at the files

_Stamp = tuple[tuple[int, int, int], ...]


class FileCertificate:
    """A module: contexts whose pair is that of the files. The next handshake shows a renewed one, connections that exist go on. A pair that
    does not fit (one file is written, the other not yet) is left until it does. `setting`: what names the files in the configuration."""

    def __init__(self, cert: Path, key: Path, setting: str, *, name: str, look: float = _LOOK) -> None:
        """Raises Invalid when the key and the certificate cannot be used. `look` is in seconds."""
        self.name = name
        self._contexts: weakref.WeakSet[ssl.SSLContext] = weakref.WeakSet()
        self._cert, self._key, self._look = cert, key, look
        self._seen = self._stamp()
        self._unfit: _Stamp = ()  # told already
        try:
            trust.server_context(cert, key, client_ca=None)
        except (OSError, ValueError) as exc:
            raise Invalid(f"{cert} and {key} cannot be used: {exc}", path=setting) from exc

    def context_for(self, client_ca: Path | None, *, minimum: ssl.TLSVersion) -> ssl.SSLContext:
        """Every client must show a certificate of that authority; None: no client shows one. Raises OSError."""
        context = trust.server_context(self._cert, self._key, client_ca=client_ca, minimum=minimum)
        self._contexts.add(context)
        return context

    async def run(self, ready: asyncio.Event) -> None:
        """Looks at the files every `look` seconds."""
        ready.set()
        while True:
            await asyncio.sleep(self._look)
            self.refresh()

    def refresh(self) -> bool:
        """Whether a new pair was taken."""
        stamp = self._stamp()
        if stamp == self._seen:
            return False
        if not trust.fits(self._cert, self._key):  # loading a wrong one would spoil the context
            if stamp != self._unfit:
                log.warning("%s and %s are not a pair; the old certificate stays", self._cert, self._key)
            self._unfit = stamp
            return False
        for context in self._contexts:
            context.load_cert_chain(self._cert, self._key)
        self._seen = stamp
        log.info("read the renewed certificate %s", self._cert)
        return True

    def _stamp(self) -> _Stamp:
        """Changes when one of the files does, or what a link leads to."""
        found = []
        for path in (self._cert, self._key):
            try:
                status = path.stat()
                found.append((status.st_ino, status.st_mtime_ns, status.st_size))
            except OSError:
                found.append((0, 0, 0))
        return tuple(found)


def modern(context: ssl.SSLContext) -> ssl.SSLContext:
    """The context as browsers need it: HTTP/1.1 is what we speak."""
    context.set_alpn_protocols(["http/1.1"])
    return context
