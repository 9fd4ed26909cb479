"""Certificates of pods on their node: keys that are made here, requests, renewal, what survives a restart."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kubeedge.api import keys, pod_certificates
from kubeedge.api.names import Object
from kubeedge.api.pod import VolumeSpec
from kubeedge.api.pod_certificates import DENIED, FAILED, ISSUED, SignerAnswer, answer_row, digest, requests_of
from kubeedge.appengine.certified_pods import CertifiedPods
from kubeedge.appengine.podcertificates import core, manager
from kubeedge.appengine.podcertificates.core import PodCertificate
from kubeedge.appengine.podcertificates.manager import PodCertificates
from kubeedge.appengine.resolve import Missing
from kubeedge.appengine.volumes import registry
from kubeedge.appengine.volumes.base import VolumeContext
from kubeedge.appengine.volumes.projections import Projection
from kubeedge.errors import Invalid
from kubeedge.pki.csr import pem
from kubeedge.store.memory import MemoryStore
from kubeedge.store.sealing import Key, Sealed
from tests.kit import virtual_time
from tests.unit.appengine.world import manifest, pod

CHAIN = (pem("CERTIFICATE", b"leaf" * 20) + pem("CERTIFICATE", b"middle" * 20)).decode()
LOCAL = "/local/podcertificates/default/web"
REPORTED = keys.reported("podcertificates", "default", "web")
SOURCE = {"signerName": "x.example/s", "keyType": "ECDSAP256", "credentialBundlePath": "bundle.pem"}
DAY = 86400.0


def asking(*sources: dict[str, Any], uid: str = "u1") -> Object:
    """A pod with these podCertificate sources, after another part of the volume."""
    parts = [{"downwardAPI": {}}, *({"podCertificate": source} for source in sources or (SOURCE,))]
    made = manifest(volumes=[{"name": "v", "projected": {"sources": parts}}])
    made["metadata"]["uid"] = uid
    return made


class Node:
    """A node's part: what its volumes see, which warnings there were, how many keys were made."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.row: Any = {}
        self.warnings: list[tuple[str, str]] = []
        self.made = 0
        self.now = 1_000_000.0
        self.certificates = PodCertificates(
            store, lambda namespace, name, row: setattr(self, "row", row), self._warn,
            wall=lambda: self.now, make=self._make, chance=lambda: 0.5,
        )  # fmt: skip
        self._task = asyncio.create_task(self.certificates.run())

    async def _warn(self, uid: str, reason: str, message: str) -> None:
        self.warnings.append((reason, message))

    async def _make(self, kind: str) -> tuple[bytes, bytes]:
        self.made += 1
        await asyncio.sleep(0.1 if kind == "ECDSAP256" else 60.0)
        return b"key %d" % self.made, b"request %d" % self.made

    async def request(self) -> bytes:
        """What it asks with now; b"" for nothing."""
        kv = await self.store.get(REPORTED)
        return requests_of(json.loads(kv.value))[1]["v/1"] if kv is not None else b""

    async def answered(self, **answer: Any) -> None:
        """The cloud answers the request that is under way."""
        made = SignerAnswer(**{"request": digest(await self.request()), "outcome": ISSUED, **answer})
        self.certificates.answer("default", "web", answer_row("u1", {"v/1": made}))
        await settled()

    async def issued(self, *, refresh: float = DAY / 2, life: float = DAY) -> None:
        await self.answered(chain=CHAIN, not_before=self.now, refresh=self.now + refresh, not_after=self.now + life)

    async def passes(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(3600.0)  # it looks at the wall clock at least so often

    def has(self) -> PodCertificate:
        return core.read(self.row, "u1")["v/1"]

    async def ends(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def settled() -> None:
    await asyncio.sleep(1)


@contextlib.asynccontextmanager
async def node() -> AsyncIterator[Node]:
    store = MemoryStore()
    made = Node(store)
    try:
        yield made
    finally:
        await made.ends()
        await store.close()


def content(row: Object, source: dict[str, Any] = SOURCE, **security: Any) -> dict[str, tuple[bytes, int | None]]:
    spec = VolumeSpec("v", "projected", {"sources": [{"downwardAPI": {}}, {"podCertificate": source}]})
    context = VolumeContext(
        pod=pod(securityContext=security), spec=spec, directory=Path("/none"),
        find=lambda resource, *_: row if resource == "podcertificates" else None,
    )  # fmt: skip
    made = registry.volume(context)
    assert isinstance(made, Projection) and made.holds_secrets
    return made.contents()


def row_of(kept: PodCertificate, uid: str = pod().uid) -> Object:
    return json.loads(json.dumps(core.row(uid, {"v/1": kept})))


def test_a_pod_asks_with_a_key_that_stays_here_and_gets_key_and_certificates() -> None:
    async def scenario() -> None:
        async with node() as edge:
            await edge.certificates.pod("default", "web", asking())
            await settled()
            assert await edge.request() == b"request 1"
            reported, local = [await edge.store.get(key) for key in (REPORTED, LOCAL)]
            assert reported is not None and local is not None and b"KEY" not in reported.value
            assert reported.mod_revision == local.mod_revision  # in one transaction
            await edge.certificates.pod("default", "web", asking())  # its status, say, has changed
            await edge.answered(request="f" * 64, chain=CHAIN)  # to another request
            assert await edge.request() == b"request 1" and not edge.has().chain
            await edge.issued()
            assert await edge.request() == b"" and edge.made == 1
            assert edge.has().key == pem("PRIVATE KEY", b"key 1").decode() and edge.has().chain == CHAIN
            assert edge.warnings == []

    virtual_time.run(scenario())


def test_a_certificate_is_renewed_with_a_new_key_and_the_old_one_serves_until_then() -> None:
    async def scenario() -> None:
        async with node() as edge:
            await edge.certificates.pod("default", "web", asking())
            await settled()
            await edge.issued()
            await edge.passes(DAY / 2 + 149)
            assert await edge.request() == b""  # half of five minutes are this pod's share of the jitter
            await edge.passes(2)
            assert await edge.request() == b"request 2" and edge.has().key == pem("PRIVATE KEY", b"key 1").decode()
            await edge.passes(1000)
            await edge.passes(DAY / 2)
            assert [reason for reason, _ in edge.warnings] == ["CertificateOverdueForRefresh", "CertificateExpired"]
            assert edge.has().chain == CHAIN and edge.made == 2
            await edge.issued()
            assert edge.has().key == pem("PRIVATE KEY", b"key 2").decode() and await edge.request() == b""

    virtual_time.run(scenario())


def test_a_certificate_of_an_hour_is_asked_for_again_before_it_ends() -> None:
    kept = PodCertificate()
    kept.asked("k", base64.b64encode(b"r").decode())
    answer = SignerAnswer(digest(b"r"), ISSUED, chain=CHAIN, refresh=3500.0, not_after=3600.0)
    assert kept.answered(answer, b"r", 300.0, 0.0) is None
    assert kept.refresh == 3550.0 and kept.due(0.0) == 3550.0 and kept.is_due(3551.0)


def test_a_clock_that_is_ahead_does_not_ask_without_end() -> None:
    async def scenario() -> None:
        async with node() as edge:
            await edge.certificates.pod("default", "web", asking())
            await settled()
            for made in range(1, 6):
                assert edge.made == made
                await edge.issued(refresh=-DAY, life=-DAY / 2)  # over, when it comes, as this node sees it
                assert edge.made == made and edge.has().chain == CHAIN
                await edge.passes(299)
                assert edge.made == made
                await edge.passes(2)

    virtual_time.run(scenario())


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"outcome": DENIED, "reason": "UnsupportedKeyType", "message": "RSA"}, "Denied"),
        ({"outcome": FAILED, "reason": "NotServed", "message": "no"}, "Failed"),
        ({"outcome": ISSUED, "chain": "none"}, "Failed"),
    ],
)
def test_a_refusal_is_final_and_named(answer: dict[str, str], reason: str) -> None:
    async def scenario() -> None:
        async with node() as edge:
            await edge.certificates.pod("default", "web", asking())
            await settled()
            await edge.answered(**answer)
            await edge.passes(DAY)
            assert edge.made == 1 and await edge.request() == b""
            ((told, message),) = edge.warnings
            assert told == reason and answer.get("message", "no certificate") in message
            with pytest.raises(Missing, match="the request for a certificate was"):
                content(row_of(edge.has()))

    virtual_time.run(scenario())


def test_a_restart_goes_on_with_the_key_that_was_asked_for_and_takes_the_answer_that_came_meanwhile() -> None:
    async def scenario() -> None:
        async with node() as before:
            await before.certificates.pod("default", "web", asking())
            await settled()
            made = SignerAnswer(
                digest(b"request 1"), ISSUED, chain=CHAIN, refresh=before.now + DAY, not_after=before.now + 2 * DAY
            )
            await before.ends()
            answer = json.dumps(answer_row("u1", {"v/1": made})).encode()
            await before.store.put(keys.desired("podcertificates", "default", "web"), answer)
            after = Node(before.store)
            await after.certificates.pod("default", "web", asking())
            await settled()
            assert after.made == 0 and after.has().key == pem("PRIVATE KEY", b"key 1").decode()
            await after.ends()
            another = Node(before.store)  # of the same name, after the cloud has made another pod
            await another.certificates.pod("default", "web", asking(uid="u2"))
            await settled()
            assert another.made == 1 and core.read(another.row, "u2")["v/1"].request
            await another.certificates.forget("default", "web")
            assert await another.store.get(LOCAL) is None and await another.store.get(REPORTED) is None
            await another.ends()

    virtual_time.run(scenario())


def test_a_pod_that_goes_while_its_key_is_made_leaves_nothing() -> None:
    async def scenario() -> None:
        async with node() as edge:
            await edge.certificates.pod("default", "web", asking())
            await asyncio.sleep(0)  # the task has begun
            await edge.certificates.forget("default", "web")
            await settled()
            assert await edge.store.get(LOCAL) is None and await edge.store.get(REPORTED) is None

    virtual_time.run(scenario())


def test_keys_of_a_pod_that_went_are_not_in_memory_either() -> None:
    async def scenario() -> None:
        async with node() as edge:
            await edge.certificates.pod("default", "web", asking())
            await settled()
            await edge.issued()
            assert edge.has().key
            await edge.certificates.forget("default", "web")
            assert edge.row is None

    virtual_time.run(scenario())


def test_many_slow_keys_of_one_pod_keep_another_waiting_for_one_of_them_at_most() -> None:
    async def scenario() -> None:
        async with node() as edge:
            await edge.certificates.pod("default", "slow", asking(*[{**SOURCE, "keyType": "RSA4096"}] * 16, uid="u2"))
            await settled()
            await edge.certificates.pod("default", "web", asking())
            await asyncio.sleep(61)
            assert await edge.request() == b"request 2" and edge.made == 3
            made = SignerAnswer(
                digest(b"request 2"), ISSUED, chain=CHAIN, refresh=edge.now + DAY, not_after=2 * edge.now
            )
            edge.certificates.answer("default", "web", answer_row("u1", {"v/1": made}))
            await asyncio.sleep(60)
            assert edge.has().chain == CHAIN and await edge.request() == b""
            await asyncio.sleep(16 * 60)
            assert edge.made == 17

    virtual_time.run(scenario())


def test_what_cannot_be_read_is_asked_for_again() -> None:
    async def scenario() -> None:
        async with node() as edge:
            await edge.store.put(LOCAL, b'{"uid": "u1", "sources": {"v/1": {"colour": "red"}}}')
            await edge.store.put(keys.desired("podcertificates", "default", "web"), b'{"uid": "u1", "answers": []}')
            await edge.certificates.pod("default", "web", asking())
            await settled()
            assert await edge.request() == b"request 1"

    virtual_time.run(scenario())


def test_pods_that_ask_for_nothing_load_nothing_and_keys_of_pods_that_went_are_removed() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        nobody: Any = None
        certified = CertifiedPods(store, lambda *_: None, nobody, nobody, lambda: 0.0)
        for key in (LOCAL, REPORTED, "/local/podcertificates/default/other"):
            await store.put(key, b'{"uid": "u1", "sources": {}}')
        before = asyncio.all_tasks()
        await certified.pod("default", "plain", manifest())
        await certified.pod("default", "plain", None)
        certified.answer("default", "web", {})
        assert asyncio.all_tasks() == before
        await certified.pod("default", "web", asking())
        await certified.sweep()
        assert await store.get(LOCAL) is not None and await store.get(REPORTED) is not None
        assert await store.get("/local/podcertificates/default/other") is None
        # another one of that name, and nobody has said that the first one went
        await certified.pod("default", "web", manifest())
        assert await store.get(LOCAL) is None
        await certified.pod("default", "web", asking())
        await certified.pod("default", "web", None)
        assert await store.get(LOCAL) is None
        await certified.close()
        await store.close()

    virtual_time.run(scenario())


def test_files_are_those_that_the_source_names() -> None:
    row = row_of(PodCertificate("KEY\n", CHAIN, 1.0, 2.0))
    assert content(row) == {"bundle.pem": (f"KEY\n{CHAIN}".encode(), None)}
    apart = {**SOURCE, "credentialBundlePath": "", "keyPath": "tls/key", "certificateChainPath": "tls/chain"}
    assert content(row, apart) == {"tls/key": (b"KEY\n", None), "tls/chain": (CHAIN.encode(), None)}
    assert content(row, fsGroup=7) == {"bundle.pem": (f"KEY\n{CHAIN}".encode(), 0o600)}
    with pytest.raises(Missing, match=r"of signer x\.example/s has not come yet"):
        content({"uid": "another", "sources": {}})
    for wrong in ({"keyType": "DSA"}, {"signerName": ""}, {"credentialBundlePath": "../x"}):
        with pytest.raises(Invalid):
            content(row, {**SOURCE, **wrong})


def test_keys_are_encrypted_where_secrets_are_and_nothing_else_that_is_local() -> None:
    sealed = Sealed(Key(bytes(32)), ["secrets"])
    assert sealed.covers(LOCAL)
    everything = Sealed(Key(bytes(32)), ["*"])
    assert everything.covers(LOCAL) and not everything.covers("/local/devices/default/a")


def test_a_pod_asks_for_as_many_as_it_may() -> None:
    assert len(list(pod_certificates.wanted_by(asking(*[SOURCE] * 40)))) == pod_certificates.MAX_SOURCES
    odd: list[Any] = [
        {},
        {**SOURCE, "keyType": 1},
        {**SOURCE, "maxExpirationSeconds": "1"},
        {**SOURCE, "signerName": None},
    ]
    assert list(pod_certificates.wanted_by(asking(*odd))) == []
    for strange in (None, {}, {"spec": {"volumes": "x"}}, {"spec": {"volumes": [1, {"projected": {"sources": [1]}}]}}):
        assert list(pod_certificates.wanted_by(strange)) == []


def test_an_agent_that_stops_does_not_wait_for_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    began, ended = asyncio.Event(), list[str]()
    real = manager.new_keys.request

    async def run() -> None:
        loop = asyncio.get_running_loop()

        def told(kind: str, stop: bytearray) -> tuple[bytes, bytes]:
            loop.call_soon_threadsafe(began.set)
            until = time.monotonic() + 60
            while not stop[0] and time.monotonic() < until:
                time.sleep(0.01)
            try:
                return real(kind, stop)
            except InterruptedError:
                ended.append(kind)
                raise

        monkeypatch.setattr(manager.new_keys, "request", told)
        making = asyncio.create_task(manager.make("RSA4096"))
        await began.wait()
        making.cancel()
        await asyncio.gather(making, return_exceptions=True)

    asyncio.run(run())  # waits for its threads
    assert ended == ["RSA4096"]
