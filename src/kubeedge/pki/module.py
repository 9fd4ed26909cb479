"""Module "certificates": renews the certificate of this node in time, with a short-lived helper process.

The agent itself reads two dates and sleeps; keys and requests are made in `python -m kubeedge.pki.renew`.

Lives elsewhere: when (core.py), how (renew.py), who uses the new certificate: the channel and the links at their next handshake.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from kubeedge.errors import Unavailable
from kubeedge.kit import helper_process
from kubeedge.kit.dataclasses import dataclass
from kubeedge.pki import core, der, trust

log = logging.getLogger("kubeedge.pki")

_LOOK_AGAIN = 3600.0  # seconds; a wall clock may be set while we sleep


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificatesSettings:
    """Where the certificate is, and who renews it."""

    pki: Path  # holds ca.crt, node.crt, node.key
    bootstrap: Sequence[str]  # "host:port" of the cloud's bootstrap ports, tried in this order


class Certificates:
    """`renewed` is called after each renewal, for those that must connect again."""

    name = "certificates"

    def __init__(
        self,
        settings: CertificatesSettings,
        *,
        clock: Callable[[], float],  # wall clock, seconds since 1970
        jitter: float,  # from 0 to 1, drawn once
        renewed: Callable[[], object] = lambda: None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._jitter = jitter
        self._renewed = renewed

    async def run(self, ready: asyncio.Event) -> None:
        """Renew the node's certificate until cancelled. Raises Invalid when node.crt cannot be read."""
        if trust.mend_pair(self._settings.pki):
            log.info("finished a renewal of the certificate that was interrupted")
        failures = 0
        due = self._due()
        ready.set()
        while True:
            while (left := due - self._clock()) > 0:
                await asyncio.sleep(min(left, _LOOK_AGAIN))
            try:
                await self._renew()
            except Unavailable as exc:
                failures += 1
                due = self._clock() + core.retry_delay(failures)
                left_days = (self._validity().not_after - self._clock()) / 86400
                log.error("the certificate was not renewed; it is valid for %.1f more days: %s", left_days, exc)
            else:
                failures = 0
                due = max(self._due(), self._clock() + _LOOK_AGAIN)  # a clock that is far ahead must not renew for ever
                log.info("renewed the certificate; next in %.1f days", (due - self._clock()) / 86400)
                self._renewed()

    def _validity(self) -> der.Validity:
        return der.validity((self._settings.pki / "node.crt").read_bytes())

    def _due(self) -> float:
        return core.renewal_time(self._validity(), self._jitter)

    async def _renew(self) -> None:
        """Raises Unavailable with the helper's last line."""
        settings = self._settings
        await helper_process.run(
            "kubeedge.pki.renew", str(settings.pki), *settings.bootstrap, purpose="that renews the certificate"
        )
