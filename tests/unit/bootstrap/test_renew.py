"""Renewal, with the helper process that the agent starts."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography import x509

from kubeedge.errors import Refused, Unavailable
from kubeedge.pki import der, trust
from kubeedge.pki.module import Certificates, CertificatesSettings
from tests.unit.bootstrap.cloud import Cloud, Machine
from tests.unit.bootstrap.test_join import ask, scenario, uri_of

DAY = 86400.0


async def joined(cloud: Cloud, node: str = "edge1") -> Machine:
    machine = Machine()
    await cloud.join(await cloud.token(node), node, machine)
    return machine


def test_a_renewal_gives_the_same_name_and_needs_no_token(tmp_path):
    async def told(cloud):
        machine = await joined(cloud)
        first = machine.certificate
        cloud.off = 200 * DAY
        second = await asyncio.to_thread(machine.renew, cloud.client())
        assert uri_of(second) == uri_of(first)
        assert der.validity(second).not_after == pytest.approx(der.validity(first).not_after + 200 * DAY, abs=5)
        await asyncio.to_thread(machine.renew, cloud.client())

    scenario(tmp_path, told)


def test_a_node_that_was_off_for_a_season_renews_with_its_expired_certificate(tmp_path):
    async def told_in_the_past(cloud):
        """The node joined 445 days ago; today all clocks agree."""
        cloud.off = -(365 + 80) * DAY
        machine = await joined_at(cloud)
        cloud.off = 0
        await asyncio.to_thread(machine.renew, cloud.client())
        cloud.off = -(365 + 95) * DAY
        late = await joined_at(cloud, "edge2")
        cloud.off = 0
        with pytest.raises(Refused, match="expired 95 days ago, too long; join the node again"):
            await asyncio.to_thread(late.renew, cloud.client())

    async def joined_at(cloud, node="edge1"):
        machine, token = Machine(), await cloud.token(node)
        await asyncio.to_thread(machine.join, cloud.client(clock=cloud.clock), token, node)
        return machine

    scenario(tmp_path, told_in_the_past)


def test_the_old_key_must_be_proved(tmp_path):
    async def told(cloud):
        machine, thief = await joined(cloud), Machine()
        thief.ca, thief.certificate = machine.ca, machine.certificate  # certificates are public
        with pytest.raises(Refused, match="does not prove the old key"):
            await asyncio.to_thread(thief.renew, cloud.client())
        await asyncio.to_thread(machine.renew, cloud.client())

    scenario(tmp_path, told)


def test_when_the_answer_is_lost_the_certificate_before_it_still_renews(tmp_path):
    async def told(cloud):
        machine = await joined(cloud)
        before = machine.key, machine.certificate
        await asyncio.to_thread(machine.renew, cloud.client())
        machine.key, machine.certificate = before  # it never heard of the new one
        await asyncio.to_thread(machine.renew, cloud.client())
        await asyncio.to_thread(machine.renew, cloud.client())
        machine.key, machine.certificate = before  # now it is two behind
        with pytest.raises(Refused, match="replaced by a later one"):
            await asyncio.to_thread(machine.renew, cloud.client())

    scenario(tmp_path, told)


def test_a_nonce_is_ours_and_fresh_or_rejected(tmp_path):
    async def told(cloud):
        machine = await joined(cloud)
        client = cloud.client()
        stale = await asyncio.to_thread(client.nonce, machine.ca)
        service = cloud.module._service
        assert service._nonce_is_fresh(stale)
        for wrong in ("", "null", ".", "1.2.3", stale[:-1], "9" + stale, "é" + stale):
            assert not service._nonce_is_fresh(wrong)
        cloud.off = 121
        assert not service._nonce_is_fresh(stale)

    scenario(tmp_path, told)


@pytest.mark.parametrize("body", [b"null", b"{}", b'{"nonce": "x", "csr": "x", "certificate": "x", "signature": "x"}'])
def test_bad_renewals_get_a_clear_answer(tmp_path, body):
    async def told(cloud):
        status, answer = await ask(cloud, "POST", "/v1/renew", body)
        assert status in (400, 503) and answer["error"]

    scenario(tmp_path, told)


def test_a_certificate_of_the_cloud_itself_is_not_renewed_here(tmp_path):
    async def told(cloud):
        machine = await joined(cloud)
        machine.certificate = cloud.certificate.cert.read_bytes()
        with pytest.raises(Refused, match="only certificates of nodes"):
            await asyncio.to_thread(machine.renew, cloud.client())

    scenario(tmp_path, told)


async def helper(cloud: Cloud, pki: Path, faults: str = "") -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "kubeedge.pki.renew", str(pki), f"127.0.0.1:{cloud.port}",
        stderr=subprocess.PIPE, env={**os.environ, "KUBEEDGE_FAULTS": faults},
    )  # fmt: skip
    _, words = await process.communicate()
    return process.returncode, words.decode()


def test_the_helper_replaces_key_and_certificate(tmp_path):
    async def told(cloud):
        pki = (await joined(cloud)).write(tmp_path / "pki")
        before = (pki / "node.crt").read_bytes(), (pki / "node.key").read_bytes()
        assert await helper(cloud, pki) == (0, "")
        assert trust.fits(pki / "node.crt", pki / "node.key")
        assert before[0] != (pki / "node.crt").read_bytes() and before[1] != (pki / "node.key").read_bytes()
        assert sorted(p.name for p in pki.iterdir()) == ["ca.crt", "node.crt", "node.key"]
        assert (pki / "node.key").stat().st_mode & 0o777 == 0o600

    scenario(tmp_path, told)


@pytest.mark.parametrize("point", ["pki.files.before_rename", "pki.renew.before_certificate", "pki.renew.between"])
def test_a_power_cut_during_a_renewal_leaves_a_pair_that_works(tmp_path, point):
    async def told(cloud):
        pki = (await joined(cloud)).write(tmp_path / "pki")
        assert (await helper(cloud, pki, f"{point}=exit"))[0] == 137
        trust.mend_pair(pki)
        assert trust.fits(pki / "node.crt", pki / "node.key")
        assert not (pki / "node.key.next").exists()
        assert (await helper(cloud, pki))[0] == 0
        assert trust.fits(pki / "node.crt", pki / "node.key")

    scenario(tmp_path, told)


def test_the_helper_says_in_one_line_what_is_wrong_and_changes_nothing(tmp_path):
    async def told(cloud):
        pki = (await joined(cloud)).write(tmp_path / "pki")
        before = {p: p.read_bytes() for p in pki.iterdir()}
        cloud.registry.nodes.clear()
        status, words = await helper(cloud, pki)
        assert (status, words.count("\n"), "not known here any more" in words) == (3, 1, True)
        assert {p: p.read_bytes() for p in pki.iterdir()} == before
        cloud._running.cancel()
        await asyncio.gather(cloud._running, return_exceptions=True)
        status, words = await helper(cloud, pki)
        assert (status, "Connection refused" in words) == (1, True)

    scenario(tmp_path, told)


def test_the_module_renews_when_it_is_time_and_tells_the_others(tmp_path):
    async def told(cloud):
        pki = (await joined(cloud)).write(tmp_path / "pki")
        first = (pki / "node.crt").read_bytes()
        renewed = asyncio.Event()
        settings = CertificatesSettings(pki=pki, bootstrap=[f"127.0.0.1:{cloud.port}"])
        module = Certificates(settings, clock=lambda: time.time() + 300 * DAY, jitter=0.5, renewed=renewed.set)
        ready = asyncio.Event()
        running = asyncio.create_task(module.run(ready))
        await asyncio.wait_for(renewed.wait(), 60)
        assert ready.is_set() and (pki / "node.crt").read_bytes() != first
        second = (pki / "node.crt").read_bytes()
        await asyncio.sleep(0.1)  # by this clock it is time again: not at once
        assert (pki / "node.crt").read_bytes() == second
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    scenario(tmp_path, told)


def test_the_module_sleeps_while_there_is_time_and_keeps_running_when_the_cloud_is_gone(tmp_path, caplog):
    async def told(cloud):
        pki = (await joined(cloud)).write(tmp_path / "pki")
        for ahead, words in ((0.0, ""), (300 * DAY, "was not renewed; it is valid for 65.0 more days")):
            module = Certificates(
                CertificatesSettings(pki=pki, bootstrap=["127.0.0.1:1"]),
                clock=lambda a=ahead: time.time() + a,
                jitter=0.5,
            )
            ready = asyncio.Event()
            running = asyncio.create_task(module.run(ready))
            await ready.wait()
            deadline = time.monotonic() + 60
            while words not in caplog.text and time.monotonic() < deadline:
                await asyncio.sleep(0.02)
            assert words in caplog.text and not running.done()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    scenario(tmp_path, told)


def test_a_server_certificate_is_renewed_under_contexts_that_are_in_use(tmp_path):
    async def told(cloud):
        def shown() -> int:
            import ssl

            pem = ssl.get_server_certificate(("127.0.0.1", cloud.port), ca_certs=str(cloud.authority.certificate_file))
            return x509.load_pem_x509_certificate(pem.encode()).serial_number

        first = await asyncio.to_thread(shown)
        assert not cloud.certificate.refresh()
        cloud.certificate._hosts = ("127.0.0.1", "cloud.example")
        assert cloud.certificate.refresh()
        assert await asyncio.to_thread(shown) != first
        await joined(cloud)

    scenario(tmp_path, told)


def test_unavailable_says_when_to_come_back(tmp_path):
    async def told(cloud):
        machine = await joined(cloud)
        client = cloud.client()
        with pytest.raises(Unavailable, match="get a new one") as error:
            await asyncio.to_thread(client.renew, machine.certificate, b"x", "old", "x", machine.ca)
        assert error.value.retry_after == 1.0

    scenario(tmp_path, told)
