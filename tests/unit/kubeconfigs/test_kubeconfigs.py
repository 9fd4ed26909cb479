"""Kubeconfigs are recorded, listed, revoked and replaced: over a memory store, in virtual time, with real certificates."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from kubeedge.api.names import DEFAULT_TENANT, TenantId
from kubeedge.api.status import Unauthorized
from kubeedge.errors import Conflict, Invalid, NotFound
from kubeedge.pki.identity import UserIdentity, parse
from kubeedge.store.memory import MemoryStore
from kubeedge_cloud.authority.ca import Authority
from kubeedge_cloud.kubeconfigs import core
from kubeedge_cloud.kubeconfigs.core import EARLIER, Kubeconfig
from kubeedge_cloud.kubeconfigs.files import KubeconfigFiles
from kubeedge_cloud.kubeconfigs.module import Kubeconfigs
from kubeedge_cloud.kubeconfigs.records import KubeconfigRecords
from tests.kit import virtual_time

NOW = 1_000_000.0


class Process:
    """What one cloud process has, over a store that it shares."""

    def __init__(self, store: MemoryStore, directory: Path) -> None:
        self.now = NOW
        self.records = KubeconfigRecords(store, self.clock)
        self.module = Kubeconfigs(store, self.clock)
        self.ended: list[tuple[str, str]] = []
        self.module.on_ended(lambda tenant, id: self.ended.append((tenant, id)))
        self.authority = Authority(directory / "pki")
        self.files = KubeconfigFiles(self.authority, self.records, directory, "https://203.0.113.1:6443", self.clock)

    def clock(self) -> float:
        return self.now

    async def opens(self, id: str, user: str = "admin") -> bool:
        try:
            await self.module.check(UserIdentity(DEFAULT_TENANT, user, id))
        except Unauthorized:
            return False
        return True


@contextlib.asynccontextmanager
async def running(process: Process) -> AsyncIterator[None]:
    ready = asyncio.Event()
    task = asyncio.create_task(process.module.run(ready))
    await ready.wait()
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def scenario(tmp_path: Path, told: Callable[[Process, Process], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        store = MemoryStore()
        one, two = Process(store, tmp_path / "1"), Process(store, tmp_path / "2")
        async with running(one), running(two):
            await told(one, two)

    for name in ("1", "2"):
        (tmp_path / name / "pki").mkdir(parents=True)
    virtual_time.run(run())


def who_of(kubeconfig: str) -> UserIdentity:
    [user] = json.loads(kubeconfig)["users"]
    pem = base64.b64decode(user["user"]["client-certificate-data"])
    names = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    [uri] = names.value.get_values_for_type(x509.UniformResourceIdentifier)
    who = parse(uri)
    assert isinstance(who, UserIdentity)
    return who


def test_what_is_revoked_in_one_process_ends_in_all(tmp_path: Path) -> None:
    async def told(one: Process, two: Process) -> None:
        record, text = await one.files.new(DEFAULT_TENANT, "alice", 3600.0)
        assert who_of(text) == UserIdentity(DEFAULT_TENANT, "alice", record.id)
        assert await two.opens(record.id), "also before it has heard of it"
        await asyncio.sleep(0.1)
        assert await one.opens(record.id) and await two.opens(record.id)
        await two.records.revoke(DEFAULT_TENANT, record.id)
        await asyncio.sleep(0.1)
        for process in (one, two):
            assert not await process.opens(record.id) and process.ended == [(DEFAULT_TENANT, record.id)]
        assert [r.state(NOW) for r in await one.records.list(DEFAULT_TENANT)] == ["revoked"]

    scenario(tmp_path, told)


def test_one_that_expired_or_was_never_made_opens_nothing(tmp_path: Path) -> None:
    async def told(one: Process, two: Process) -> None:
        record, _ = await one.files.new(DEFAULT_TENANT, "alice", 3600.0)
        assert not await one.opens("0123456789")
        with pytest.raises(Unauthorized):
            await one.module.check(UserIdentity(TenantId("acme"), "alice", record.id))
        one.now += 3600.0
        assert not await one.opens(record.id)

    scenario(tmp_path, told)


def test_certificates_of_earlier_versions_open_until_they_are_revoked_together(tmp_path: Path) -> None:
    async def told(one: Process, two: Process) -> None:
        assert await one.opens("") and await one.opens("", user="somebody")
        pki = tmp_path / "1/pki"
        cert, key = pki / "admin-default.crt", pki / "admin-default.key"
        one.authority.write_pair(cert, key, UserIdentity(DEFAULT_TENANT, "admin"), client=True)  # as it was left
        id = await one.files.keep(DEFAULT_TENANT)
        assert {r.id for r in await one.records.list(DEFAULT_TENANT)} == {EARLIER, id}
        assert await one.opens("") and await one.opens(id)
        await two.records.revoke(DEFAULT_TENANT, EARLIER)
        await asyncio.sleep(0.1)
        assert not await one.opens("") and (DEFAULT_TENANT, "") in one.ended
        assert await one.opens(id)

    scenario(tmp_path, told)


def test_the_file_of_the_administrator_is_kept_and_replaced(tmp_path: Path) -> None:
    async def told(one: Process, two: Process) -> None:
        first = await one.files.keep(DEFAULT_TENANT)
        text = one.files.path(DEFAULT_TENANT).read_text()
        assert one.files.path(DEFAULT_TENANT).stat().st_mode & 0o777 == 0o600
        assert await one.files.keep(DEFAULT_TENANT) == first
        assert one.files.path(DEFAULT_TENANT).read_text() == text
        other = await two.files.keep(DEFAULT_TENANT)
        second = await one.files.replace(DEFAULT_TENANT)
        await asyncio.sleep(0.1)
        assert who_of(one.files.path(DEFAULT_TENANT).read_text()).kubeconfig == second != first
        assert [await one.opens(id) for id in (first, second, other)] == [False, True, True]
        await two.records.revoke(DEFAULT_TENANT, second)  # by its id: the next look makes another
        third = await one.files.keep(DEFAULT_TENANT)
        assert third not in (first, second) and await one.opens(third)

    scenario(tmp_path, told)


def test_a_tenant_has_so_many_and_those_that_ended_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "MAX_KUBECONFIGS", 3)

    async def told(one: Process, two: Process) -> None:
        await one.records.revoke(DEFAULT_TENANT, EARLIER)
        made = [await one.records.create(DEFAULT_TENANT, "alice", 3600.0) for _ in range(2)]
        with pytest.raises(Conflict, match="3 kubeconfigs"):
            await one.records.create(DEFAULT_TENANT, "alice", 3600.0)
        await one.records.create(TenantId("acme"), "alice", 3600.0)
        await one.records.revoke(DEFAULT_TENANT, made[0].id)
        await one.records.create(DEFAULT_TENANT, "alice", 3600.0)
        left = {r.id for r in await one.records.list(DEFAULT_TENANT)}
        assert EARLIER in left and made[0].id not in left and len(left) == 3
        await asyncio.sleep(0.1)
        assert not await one.opens("") and not await one.opens(made[0].id)

    scenario(tmp_path, told)


@pytest.mark.parametrize(("user", "ttl"), [("Alice", 60.0), ("", 60.0), ("a/b", 60.0), ("alice", 0.0), ("alice", 1e12)])
def test_nonsense_is_refused(tmp_path: Path, user: str, ttl: float) -> None:
    async def told(one: Process, two: Process) -> None:
        with pytest.raises(Invalid):
            await one.files.new(DEFAULT_TENANT, user, ttl)
        with pytest.raises(NotFound):
            await one.records.revoke(DEFAULT_TENANT, "nothing")
        assert await one.records.list(DEFAULT_TENANT) == []

    scenario(tmp_path, told)


def test_records_that_may_go_are_the_oldest_that_ended() -> None:
    records = [
        Kubeconfig("a", "u", 3.0, 10.0), Kubeconfig("b", "u", 1.0, 100.0, revoked=5.0), Kubeconfig("c", "u", 2.0, 100.0),
        Kubeconfig(EARLIER, "u", 0.0, 0.0, revoked=5.0),
    ]  # fmt: skip
    assert [r.id for r in core.forgettable(records, 50.0, 3)] == ["b"]
    assert [r.id for r in core.forgettable(records, 50.0, 0)] == ["b", "a"]
    assert core.forgettable(records, 50.0, 4) == []
