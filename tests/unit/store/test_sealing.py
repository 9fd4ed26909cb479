"""Secrets in the store's file: encrypted there and nowhere else, bound to their rows, with keys that come, change and go."""

from __future__ import annotations

import asyncio
import base64
import os
import sqlite3
import stat
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from kubeedge import faults
from kubeedge.agent.salvage import worth_keeping
from kubeedge.api import keys
from kubeedge.api.names import NodeName, Revision, TenantId
from kubeedge.config.edge import SecretsEncryption
from kubeedge.errors import Invalid, Unavailable
from kubeedge.store import sealing_keys, upkeep
from kubeedge.store.model import Compare, CompareTarget, Delete, Get, Put
from kubeedge.store.sealing import Key, Keyring, NotAuthentic, Sealed, Sealing
from kubeedge.store.sqlite import CorruptStore, SqliteSettings, SqliteStore, open_sqlite

SECRET = keys.desired("secrets", "default", "db")
POD = keys.desired("pods", "default", "web")
WRITE = keys.reported("writes", "", "0000000000000001")
SECRETS = frozenset(("secrets",))
OLD, NEW = Key(bytes(range(32))), Key(bytes(range(100, 132)))
MARK = b"correct-horse-battery-staple"
VALUE = b'{"data":{"password":"' + MARK + b'"}}'


def ring(*found: Key, enabled: bool = True, required: bool = False) -> SqliteSettings:
    problem = "" if found else "/media/stick/key: No such file or directory"
    keyring = Keyring(enabled, found, SECRETS, problem, required)
    return SqliteSettings(keep_revisions=4, compact_every=1_000_000, keyring=keyring)


PLAIN = SqliteSettings()


def run(scenario: Callable[[Path], Coroutine[Any, Any, None]], directory: Path) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await scenario(directory / "edge.db")

    asyncio.run(limited())


def in_files(directory: Path, what: bytes = MARK) -> list[str]:
    """Every file, the log of a store that is open too."""
    return sorted(f.name for f in directory.rglob("*") if f.is_file() and what in f.read_bytes())


async def value(store: SqliteStore, key: str = SECRET) -> bytes | None:
    found = await store.get(key)
    return found.value if found else None


async def filled(path: Path, settings: SqliteSettings) -> None:
    store = await open_sqlite(path, settings=settings)
    await store.put(SECRET, b"{}")
    await store.put(POD, b'{"kind":"Pod"}')
    await store.txn((), [Put(SECRET, VALUE), Put(WRITE, VALUE)])
    await store.close()


async def one(path: Path, settings: SqliteSettings, key: str = SECRET) -> bytes | None:
    store = await open_sqlite(path, settings=settings)
    try:
        return await value(store, key)
    finally:
        await store.close()


# -- what is on the disk -----------------------------------------------------------------------------------------------


def test_no_file_has_the_text_of_a_secret_at_any_time(tmp_path: Path) -> None:
    async def scenario(path: Path) -> None:
        store = await open_sqlite(path, settings=ring(OLD))
        large = VALUE + b" " * 100_000  # overflow pages
        for n in range(40):  # created, updated, deleted, compacted: log, free pages, overflow pages
            await store.txn((), [Put(f"{SECRET}-{n}", VALUE if n % 2 else large), Put(WRITE, VALUE), Put(POD, b"{}")])
            await store.put(f"{SECRET}-{n}", VALUE)
            assert in_files(tmp_path) == []
        await store.txn((), [Delete(SECRET, keys.prefix_end(SECRET))])
        await store.compact(Revision(store.revision - 1))
        assert in_files(tmp_path) == []
        await store.put(SECRET, VALUE)
        upkeep.backup(path, tmp_path / "backup.db")
        assert in_files(tmp_path) == [] and in_files(tmp_path, b"/desired/secrets/") != []
        await store.close()
        assert in_files(tmp_path) == []
        restored = tmp_path / "restored.db"
        upkeep.restore(tmp_path / "backup.db", restored)
        assert await one(restored, ring(OLD)) == VALUE and in_files(tmp_path) == []
        assert upkeep.check(path) == [] and upkeep.side(path) == "edge"

    run(scenario, tmp_path)


def test_reads_watches_and_compares_see_values(tmp_path: Path) -> None:
    async def scenario(path: Path) -> None:
        await filled(path, ring(OLD))
        store = await open_sqlite(path, settings=ring(OLD))
        assert {kv.key: kv.value for kv in (await store.range("/", "0")).kvs} == {
            SECRET: VALUE, POD: b'{"kind":"Pod"}', WRITE: VALUE,
        }  # fmt: skip
        assert [kv.value for kv in (await store.range("/", "0", keys_only=True, limit=2)).kvs] == [b"", b""]
        assert (await store.range(SECRET, revision=Revision(2))).kvs[0].value == b"{}"
        compare = Compare(SECRET, CompareTarget.VALUE, "=", VALUE)
        result = await store.txn([compare], [Get(SECRET), Put(SECRET, b"new")], [])
        assert result.succeeded and result.responses[0].kvs[0].value == VALUE  # type: ignore[union-attr]
        many = [Get(key) for key in (SECRET, POD, WRITE, SECRET)]
        assert (await store.txn((), many)).responses[2].kvs[0].value == VALUE  # type: ignore[union-attr]
        seen = []
        async for batch in store.watch("/desired/secrets/", after=Revision(1)):
            seen += [change.value for change in batch.changes]
            if len(seen) == 3:
                break
        assert seen == [b"{}", VALUE, b"new"]
        await store.close()

    run(scenario, tmp_path)


def test_a_value_belongs_to_its_row(tmp_path: Path) -> None:
    """Whoever writes to the card can spoil a value, and not choose another one for it: not of another key, nor an older one."""
    sealed = Sealed(OLD, SECRETS)
    stored = sealed.seal(7, SECRET, VALUE)
    assert sealed.open(7, SECRET, stored) == VALUE and sealed.seal(7, SECRET, VALUE) != stored
    for row, key, found in (
        (8, SECRET, stored),
        (7, SECRET + "2", stored),
        (7, SECRET, VALUE),
        (7, SECRET, b""),
        (7, SECRET, stored[:-1]),
        (7, SECRET, stored[:9]),
        (7, SECRET, b"\2" + stored[1:]),
    ):
        with pytest.raises(NotAuthentic):
            sealed.open(row, key, found)
    assert MARK.decode() not in repr(OLD) and "secret" not in repr(OLD)

    async def scenario(path: Path) -> None:
        await filled(path, ring(OLD))
        with sqlite3.connect(path) as db:  # the first value again, as the newest
            db.execute(
                "UPDATE history SET value = (SELECT value FROM history WHERE key = ?1 ORDER BY id LIMIT 1) WHERE key = ?1",
                (SECRET,),
            )
        db.close()
        with pytest.raises(CorruptStore, match="another row"):
            await open_sqlite(path, settings=ring(OLD))
        store = await open_sqlite(path, settings=ring(OLD), on_corrupt="rebuild", wanted=worth_keeping)
        assert await value(store) is None and await value(store, WRITE) == VALUE  # the cloud sends it again
        await store.close()
        assert in_files(tmp_path) == []

    run(scenario, tmp_path)


def test_what_is_sealed_is_what_the_resources_say() -> None:
    tenant, node = TenantId("acme"), NodeName("edge1")
    sealed = Sealed(OLD, SECRETS)
    assert all(
        sealed.covers(key)
        for key in (
            SECRET,
            WRITE,
            keys.desired("writes", "", "1"),
            keys.registry(tenant) + "core/secrets/default/db",
            keys.edge_desired(tenant, node) + "secrets/default/db",
            keys.edge_reported(tenant, node) + "writes/_/1",
        )
    )
    assert not any(
        sealed.covers(key)
        for key in (POD, keys.SYNC_DOWN, keys.desired("configmaps", "secrets", "secrets"), "/local/written/secrets/a/b")
    )
    everything = Sealed(OLD, ("*",))
    assert everything.covers(POD) and not everything.covers(keys.SYNC_DOWN)


# -- on, off, other keys -----------------------------------------------------------------------------------------------


def test_a_plain_store_is_encrypted_and_nothing_plain_is_left(tmp_path: Path) -> None:
    async def scenario(path: Path) -> None:
        await filled(path, PLAIN)
        store = await open_sqlite(path, settings=PLAIN)
        before = (store.store_id, store.revision, store.compacted)
        lease = await store.lease_grant(1000)
        history = (await store.range("/", "0")).kvs
        await store.close()
        held = path.open("rb")  # the old file's blocks
        store = await open_sqlite(path, settings=ring(OLD))
        assert (store.store_id, store.revision, store.compacted) == before
        assert (await store.range("/", "0")).kvs == history
        await store.lease_keepalive(lease)
        assert store.sealing.key == OLD.id.hex() and store.sealing.lasting and not store.sealing.unreadable
        assert in_files(tmp_path) == [] and set(held.read()) == {0}
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        held.close()
        await store.close()
        again = await open_sqlite(path, settings=ring(OLD))
        assert not again.sealing.reopen  # once
        await again.close()
        off = await open_sqlite(path, settings=ring(OLD, enabled=False))  # as Kubernetes' provider identity comes first
        assert (await off.range("/", "0")).kvs == history and not off.sealing.key
        await off.close()
        assert await one(path, PLAIN) == VALUE and in_files(tmp_path) == ["edge.db"]

    run(scenario, tmp_path)


def test_the_log_of_a_process_that_died_is_scrubbed_too(tmp_path: Path) -> None:
    async def scenario(path: Path) -> None:
        store = await open_sqlite(path, settings=PLAIN)
        await store.put(SECRET, VALUE)
        log = path.with_name("edge.db-wal")
        copies = {file.name: file.read_bytes() for file in (path, log)}
        assert MARK in copies[log.name]
        await store.close()
        for name, data in copies.items():  # as a power cut leaves them
            (tmp_path / name).write_bytes(data)
        held = log.open("rb")
        assert await one(path, ring(OLD)) == VALUE
        assert set(held.read()) <= {0} and in_files(tmp_path) == []
        held.close()

    run(scenario, tmp_path)


def test_a_copy_that_somebody_keeps_as_a_hard_link_is_not_overwritten(tmp_path: Path) -> None:
    async def scenario(path: Path) -> None:
        await filled(path, PLAIN)
        (tmp_path / "mine").hardlink_to(path)
        before = path.read_bytes()
        assert await one(path, ring(OLD)) == VALUE
        assert (tmp_path / "mine").read_bytes() == before and in_files(tmp_path) == ["mine"]

    run(scenario, tmp_path)


@pytest.mark.parametrize("point", ["store.reseal.before_rename", "store.reseal.before_scrub"])
def test_a_cut_while_it_is_rewritten_loses_nothing_and_leaves_nothing(
    tmp_path: Path, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cut(BaseException):
        """The power is gone: nothing is tidied up."""

    async def scenario(path: Path) -> None:
        await filled(path, PLAIN)
        held = path.open("rb")

        def cut(name: str) -> None:
            if name == point:
                for file in tmp_path.iterdir():
                    os.link(file, tmp_path.parent / f"{tmp_path.name}-{file.name}")
                raise Cut

        monkeypatch.setattr(faults, "at", cut)
        with pytest.raises(Cut):
            await open_sqlite(path, settings=ring(OLD))
        monkeypatch.undo()
        for file in tmp_path.iterdir():
            file.unlink()
        for file in tmp_path.parent.glob(f"{tmp_path.name}-*"):  # what was there at that moment
            os.rename(file, tmp_path / file.name.removeprefix(f"{tmp_path.name}-"))
        assert await one(path, ring(OLD)) == VALUE
        assert in_files(tmp_path) == [] and MARK not in held.read()
        assert {file.name for file in tmp_path.iterdir()} <= {"edge.db", "edge.db.lock"}
        held.close()

    run(scenario, tmp_path)


def test_keys_are_rotated(tmp_path: Path) -> None:
    async def scenario(path: Path) -> None:
        await filled(path, ring(OLD))
        assert await one(path, ring(NEW, OLD)) == VALUE  # the first one encrypts, all decrypt
        assert await one(path, ring(NEW)) == VALUE  # so the old one may go now
        store = await open_sqlite(path, settings=ring(NEW))
        assert store.sealing.key == NEW.id.hex()
        await store.close()
        assert in_files(tmp_path, OLD.id) == []

    run(scenario, tmp_path)


# -- the key is not there ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("found", [(), (NEW,)], ids=["missing", "wrong"])
def test_without_its_key_the_rest_goes_on_and_nothing_is_lost(tmp_path: Path, found: tuple[Key, ...]) -> None:
    async def scenario(path: Path) -> None:
        await filled(path, ring(OLD))
        for _ in range(3):  # however often it starts
            store = await open_sqlite(path, settings=ring(*found))
            assert store.revision == 4  # what counts on from it gives out no number twice
            assert await value(store, POD) == b'{"kind":"Pod"}' and await value(store) is None
            assert {kv.key for kv in (await store.range("/", "0")).kvs} == {POD}
            assert store.sealing.unreadable == 2 and store.sealing.lasting == bool(found)
            assert bool(store.sealing.problem) == (not found)
            await store.close()
        assert upkeep.check(path) == []
        assert await one(path, ring(OLD)) == VALUE and await one(path, ring(OLD), WRITE) == VALUE
        store = await open_sqlite(path, settings=ring(OLD))
        assert not store.sealing.unreadable and not store.sealing.reopen
        await store.close()

    run(scenario, tmp_path)


def test_what_the_cloud_sends_meanwhile_is_encrypted_for_this_process_alone(tmp_path: Path) -> None:
    async def scenario(path: Path) -> None:
        await filled(path, ring(OLD))
        store = await open_sqlite(path, settings=ring())
        await store.put(SECRET, VALUE + b"2")
        assert await value(store) == VALUE + b"2" and in_files(tmp_path) == []
        with pytest.raises(Unavailable, match="secrets-key"):  # nobody else has it, and it could not be read again
            await store.put(WRITE, VALUE)
        await store.close()
        assert await one(path, ring()) is None and in_files(tmp_path) == []
        assert await one(path, ring(OLD)) == VALUE  # older than the cloud's; sync compares

    run(scenario, tmp_path)


def test_what_was_written_with_another_key_meanwhile_is_the_newer_one(tmp_path: Path) -> None:
    async def scenario(path: Path) -> None:
        await filled(path, ring(OLD))
        store = await open_sqlite(path, settings=ring(NEW))
        await store.put(SECRET, b"newer")
        await store.close()
        store = await open_sqlite(path, settings=ring(NEW, OLD))
        assert await value(store) == b"newer" and await value(store, WRITE) == VALUE
        assert not store.sealing.unreadable
        await store.close()

    run(scenario, tmp_path)


def test_a_plain_store_waits_for_the_key_and_a_new_one_does_not_become_plain(tmp_path: Path) -> None:
    async def scenario(path: Path) -> None:
        await filled(path, PLAIN)
        store = await open_sqlite(path, settings=ring())
        assert await value(store) == VALUE and store.sealing.enabled and not store.sealing.key and store.sealing.problem
        await store.close()
        new = path.with_name("new.db")
        store = await open_sqlite(new, settings=ring())
        await store.put(SECRET, VALUE)
        assert in_files(tmp_path) == ["edge.db"] and not store.sealing.lasting and store.sealing.key
        await store.close()

    run(scenario, tmp_path)


def test_a_store_that_nobody_else_has_is_not_opened_without_its_key(tmp_path: Path) -> None:
    async def scenario(path: Path) -> None:
        with pytest.raises(Unavailable, match="No such file"):
            await open_sqlite(path, settings=ring(required=True))
        assert not path.exists()
        await filled(path, ring(OLD, required=True))
        before = path.read_bytes()
        for settings in (ring(required=True), ring(NEW, required=True), ring(enabled=False, required=True)):
            with pytest.raises(Unavailable, match="key"):
                await open_sqlite(path, settings=settings)
            assert path.read_bytes() == before
        assert await one(path, ring(NEW, OLD, required=True)) == VALUE

    run(scenario, tmp_path)


def test_a_disk_without_room_for_it_leaves_the_store_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(path: Path) -> None:
        await filled(path, PLAIN)

        def full(name: str) -> None:
            if name == "store.reseal.before_rename":
                raise OSError(28, "No space left on device")

        monkeypatch.setattr(faults, "at", full)
        store = await open_sqlite(path, settings=ring(OLD))
        assert await value(store) == VALUE and not store.sealing.key and "No space" in store.sealing.problem
        await store.close()
        monkeypatch.undo()
        assert await one(path, ring(OLD)) == VALUE and in_files(tmp_path) == []

    run(scenario, tmp_path)


def test_a_corrupt_store_is_salvaged_with_its_key_and_stays_encrypted(tmp_path: Path) -> None:
    async def scenario(path: Path) -> None:
        await filled(path, ring(OLD))
        with sqlite3.connect(path) as db:
            db.execute("UPDATE meta SET value = 77 WHERE name = 'schema'")
        db.close()
        store = await open_sqlite(path, settings=ring(OLD), on_corrupt="rebuild", wanted=worth_keeping)
        assert await value(store) == VALUE and await value(store, WRITE) == VALUE
        await store.close()
        assert in_files(tmp_path) == [] and await one(path, ring(OLD)) == VALUE

    run(scenario, tmp_path)


# -- files with keys ---------------------------------------------------------------------------------------------------


def lines(*texts: str) -> str:
    return "\n".join(texts)


@pytest.fixture
def key_file(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "key"


def test_a_key_file_has_a_key_a_line(key_file: Path) -> None:
    sealing_keys.write(key_file, [NEW, OLD])
    assert sealing_keys.read(key_file) == (NEW, OLD) and stat.S_IMODE(key_file.stat().st_mode) == 0o600
    with pytest.raises(Invalid, match="exists"):
        sealing_keys.write(key_file, [OLD])
    key_file.write_text(lines("# comment", "", f"  {base64.b64encode(OLD.secret).decode()}  # the old one"))
    assert sealing_keys.read(key_file) == (OLD,)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no key in it"),
        ("# nothing", "no key in it"),
        ("c2hvcnQ=", "not 32 bytes"),
        ("swordfish swordfish swordfish swordfish", "not 32 bytes"),
        (base64.b64encode(bytes(32)).decode(), "not random"),
        ("\n".join([base64.b64encode(OLD.secret).decode()] * 17), "more than 16"),
        ("#" * 20_000, "more than"),
    ],
)
def test_what_is_no_key_file_is_refused_without_what_is_in_it(key_file: Path, text: str, why: str) -> None:
    key_file.write_text(text)
    with pytest.raises(Invalid, match=why) as caught:
        sealing_keys.read(key_file)
    assert "swordfish" not in str(caught.value)


def test_keys_come_from_a_file_or_from_systemd(tmp_path: Path, key_file: Path) -> None:
    sealing_keys.write(key_file, [OLD])

    def keyring(environment: dict[str, str] | None = None, *, enable: bool = True, **options: Any) -> Keyring:
        return sealing_keys.keyring(SecretsEncryption(enable=enable, **options), environment or {})

    assert keyring(key_file=key_file).keys == (OLD,)
    assert keyring({"CREDENTIALS_DIRECTORY": str(tmp_path)}, credential="key").keys == (OLD,)
    assert "LoadCredential" in keyring(credential="key").problem
    assert "No such file" in keyring(key_file=tmp_path / "absent").problem
    assert "neither" in keyring().problem and not keyring().keys
    assert keyring(enable=False, key_file=key_file).keys == (OLD,)  # to decrypt
    assert keyring(enable=False) == Keyring()


def test_meta_that_makes_no_sense_is_a_corrupt_store(tmp_path: Path) -> None:
    for text in ("", "[]", "{}", '{"key": 1}', '{"key": "00", "resources": [1]}'):
        with pytest.raises(ValueError):
            Sealing.parse(text)

    async def scenario(path: Path) -> None:
        await filled(path, ring(OLD))
        with sqlite3.connect(path) as db:
            db.execute("UPDATE meta SET value = '{}' WHERE name = 'sealing'")
        db.close()
        with pytest.raises(CorruptStore):
            await open_sqlite(path, settings=ring(OLD))

    run(scenario, tmp_path)
