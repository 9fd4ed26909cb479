"""`kubeedge store restore` puts a backup where it belongs."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from kubeedge.api import keys
from kubeedge.api.names import DEFAULT_TENANT, NodeName
from kubeedge.cli.main import main
from kubeedge.store import upkeep
from kubeedge.store.sqlite import open_sqlite

CLOUD, EDGE = "var/lib/kubeedge/cloud/cloud.db", "var/lib/kubeedge/edge/edge.db"
KEYS = {"cloud": keys.tenant(DEFAULT_TENANT), "edge": keys.desired("pods", "default", "a")}


def make(path: Path, *keys: str) -> Path:
    async def scenario() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        store = await open_sqlite(path)
        for key in keys:
            await store.put(key, b"{}")
        await store.close()

    asyncio.run(scenario())
    return path


def restore(root: Path, backup: Path, *more: str) -> int:
    return main(["store", "restore", str(backup), "--root-dir", str(root), *more])


@pytest.mark.parametrize("side", ["cloud", "edge"])
@pytest.mark.parametrize("other", ["there", "not there"])
def test_a_backup_goes_to_its_own_side(tmp_path: Path, side: str, other: str) -> None:
    """The directory of the side that it is of is gone: that is why somebody restores."""
    backup, root = make(tmp_path / "backup", KEYS[side]), tmp_path / "root"
    paths = {"cloud": root / CLOUD, "edge": root / EDGE}
    [others] = [name for name in paths if name != side]
    if other == "there":
        make(paths[others], KEYS[others])
        before = paths[others].read_bytes()
    assert restore(root, backup) == 0
    assert upkeep.side(paths[side]) == side
    assert paths[others].exists() == (other == "there")
    if other == "there":
        assert paths[others].read_bytes() == before


def test_the_store_of_the_other_side_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backup, edge = make(tmp_path / "backup", KEYS["cloud"]), make(tmp_path / "edge.db", KEYS["edge"])
    before = edge.read_bytes()
    assert restore(tmp_path, backup, "--store", str(edge)) == 1
    said = capsys.readouterr().err
    assert "is a backup of the cloud's store" in said and str(tmp_path / CLOUD) in said
    assert edge.read_bytes() == before


def test_an_empty_backup_needs_to_be_told_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backup = make(tmp_path / "backup")
    assert restore(tmp_path / "root", backup) == 1
    assert "--store FILE" in capsys.readouterr().err and not (tmp_path / "root").exists()
    assert restore(tmp_path / "root", backup, "--store", str(tmp_path / "root" / EDGE)) == 0


def test_a_cloud_without_its_authority_is_told_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backup, pki = make(tmp_path / "backup", KEYS["cloud"]), (tmp_path / CLOUD).parent / "pki"
    assert restore(tmp_path, backup) == 0
    assert f"restore {pki}/ca.crt and {pki}/ca.key" in capsys.readouterr().out
    pki.mkdir()
    (pki / "ca.key").write_text("")
    assert restore(tmp_path, backup) == 0
    assert "ca.key" not in capsys.readouterr().out


def fill(path: Path, values: dict[str, object]) -> Path:
    async def scenario() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        store = await open_sqlite(path)
        for key, value in values.items():
            await store.put(key, json.dumps(value).encode())
        for kv in (await store.range("/", "0")).kvs:
            if kv.key not in values:
                await store.delete(kv.key)
        await store.close()

    asyncio.run(scenario())
    return path


def test_what_was_ended_after_the_backup_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before there was not a word: a machine that had been removed was a node again."""
    tenant, a, b, c = DEFAULT_TENANT, NodeName("a"), NodeName("b"), NodeName("c")
    then = {
        keys.tenant(tenant): {},
        keys.nodes(tenant) + a: {"name": a, "join": "1"},
        keys.nodes(tenant) + b: {"name": b, "join": "1"},
        keys.nodes(tenant) + c: {"name": c, "join": "1"},
        keys.tokens(tenant) + "used": {"used": 0.0, "revoked": False},
        keys.tokens(tenant) + "new": {"used": 0.0, "revoked": False},
        keys.kubeconfigs(tenant) + "lost": {"revoked": 0.0},
        keys.kubeconfigs(tenant) + "good": {"revoked": 0.0},
        keys.kubeconfigs(tenant) + "gone": {"revoked": 1.0},
    }
    store = fill(tmp_path / CLOUD, then)
    upkeep.backup(store, tmp_path / "backup")
    later = then | {
        keys.nodes(tenant) + b: {"name": b, "join": "2"},
        keys.tokens(tenant) + "used": {"used": 7.0, "revoked": False},
        keys.kubeconfigs(tenant) + "lost": {"revoked": 8.0},
    }
    del later[keys.nodes(tenant) + a]
    fill(store, later)
    (store.parent / "pki").mkdir()
    (store.parent / "pki" / "ca.key").write_text("")
    assert restore(tmp_path, tmp_path / "backup", "--output", "json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["validAgain"] == [
        "kubeconfig lost of tenant default",
        "node a of tenant default, which was removed",
        "node b of tenant default, as the machine that was replaced: the one that took its place is refused",
        "token used of tenant default",
    ]
    assert "kubeconfig revoke" in said["next"]
    assert restore(tmp_path, tmp_path / "backup", "--output", "json") == 0  # nothing has changed since
    assert "validAgain" not in json.loads(capsys.readouterr().out)
    store.write_bytes(b"nothing that could be compared")
    assert restore(tmp_path, tmp_path / "backup", "--output", "json") == 0
    assert "after the backup" in json.loads(capsys.readouterr().out)["validAgain"]
