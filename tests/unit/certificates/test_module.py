"""The cloud's server certificate while its clock is set: one that no node would take yet does not stay."""

from __future__ import annotations

import asyncio
from pathlib import Path

from kubeedge.pki import der
from kubeedge_cloud.authority.ca import Authority
from kubeedge_cloud.certificates.module import ServerCertificate
from tests.kit import virtual_time

NOON = 1_800_000_000.0
YEAR = 365 * 86400.0


def test_a_certificate_made_while_the_clock_was_ahead_is_replaced_soon_after_its_correction(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        ahead = [5 * YEAR]

        def wall() -> float:
            return NOON + ahead[0] + asyncio.get_running_loop().time()

        renewals: list[float] = []
        certificate = ServerCertificate(
            Authority(tmp_path, clock=wall), tmp_path, ["203.0.113.1"], renewed=lambda: renewals.append(wall())
        )
        running = asyncio.create_task(certificate.run(asyncio.Event()))
        await asyncio.sleep(90)
        assert der.validity(certificate.cert.read_bytes()).not_before > NOON + 4 * YEAR and not renewals
        ahead[0] = 0.0
        await asyncio.sleep(11)
        assert der.validity(certificate.cert.read_bytes()).not_before < wall() and len(renewals) == 1
        ahead[0] = 30 * YEAR  # for an hour: what is good for all who know the time is kept
        await asyncio.sleep(3600)
        ahead[0] = 0.0
        await asyncio.sleep(3600)
        assert len(renewals) == 1
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    virtual_time.run(scenario())
