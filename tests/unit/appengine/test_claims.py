"""Claims of pods: what they are bound to, or in which words the pod waits; the volumes behind them, and what stays when a pod goes."""

from __future__ import annotations

import asyncio
import os
import select
import stat
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kubeedge.api.pod import Pod
from kubeedge.appengine.dashboards import ClaimUse
from kubeedge.appengine.runtime.base import StartError
from kubeedge.appengine.volumes import claims, nfs, ownership, registry
from kubeedge.appengine.volumes.base import NotMounted, RemoteVolume, Volume, VolumeContext
from kubeedge.appengine.volumes.claim_stats import ClaimStats
from kubeedge.appengine.volumes.manager import VolumeManager
from kubeedge.errors import Invalid
from tests.unit.appengine.world import container, pod

Rows = Mapping[tuple[str, str, str], Any]
CLAIM = ("persistentvolumeclaims", "default", "data")
VOLUME = ("persistentvolumes", "", "pv1")


def claim(**changes: Any) -> dict[str, Any]:
    made = {"metadata": {"name": "data", "uid": "c1"}, "spec": {"volumeName": "pv1"}, "status": {"phase": "Bound"}}
    return {**made, **changes}


def persistent(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "pv1"}, "spec": {"claimRef": {"uid": "c1"}, **spec}}


def mounting(source: dict[str, Any] | None = None, **spec: Any) -> Pod:
    volume = source or {"persistentVolumeClaim": {"claimName": "data"}}
    mounted = container(volumeMounts=[{"name": "v", "mountPath": "/data"}])
    return pod(volumes=[{"name": "v", **volume}], containers=[mounted], **spec)


def context(rows: Rows, of: Pod | None = None, directory: Path = Path("/none")) -> VolumeContext:
    wanted = of or mounting()
    return VolumeContext(
        pod=wanted,
        spec=wanted.volumes["v"],
        directory=directory,
        find=lambda *key: rows.get(key),
        node="edge1",
    )


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ({}, 'persistentvolumeclaim "data" not found'),
        ({CLAIM: claim(status={"phase": "Pending"})}, "is not bound to a volume yet"),
        ({CLAIM: claim(status={})}, "is not bound to a volume yet"),
        ({CLAIM: claim(spec={})}, "is not bound to a volume yet"),
        ({CLAIM: claim(spec="x", status=[])}, "is not bound to a volume yet"),
        ({CLAIM: claim(status={"phase": "Lost"})}, "has lost its volume"),
        ({CLAIM: claim()}, 'persistentvolume "pv1" of claim "data" has not come yet'),
        ({CLAIM: claim(), VOLUME: persistent(claimRef={"uid": "c2"})}, 'is not bound to claim "data"'),
        ({CLAIM: claim(), VOLUME: {"metadata": {}}}, 'is not bound to claim "data"'),
        (
            {CLAIM: claim(), VOLUME: persistent(local={"path": "/a"}, nodeAffinity={"required": {"nodeSelectorTerms": []}})},
            "is not on this node, by its node affinity",
        ),
    ],
)  # fmt: skip
def test_a_claim_that_is_not_bound_is_said_in_words(rows: Rows, words: str) -> None:
    with pytest.raises(NotMounted, match=words) as caught:
        claims.resolved(context(rows))
    assert caught.value.reason == "ContainerCreating"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"volumeMode": "Block", "local": {"path": "/dev/sdb"}}, "volumeMode"),
        ({"iscsi": {"lun": 1}, "capacity": {"storage": "1Gi"}}, "persistent volumes of type iscsi are not supported"),
        ({"local": "x"}, "persistent volumes of type  are not supported"),
    ],
)
def test_what_no_node_of_ours_can_mount_is_no_matter_of_waiting(spec: dict[str, Any], words: str) -> None:
    with pytest.raises(StartError, match=words) as caught:
        claims.resolved(context({CLAIM: claim(), VOLUME: persistent(**spec)}))
    assert caught.value.reason == "CreateContainerConfigError"


def test_a_claim_is_the_volume_that_it_is_bound_to() -> None:
    affinity = {"required": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["fast"]}]},
    ]}}  # fmt: skip
    rows = {
        CLAIM: claim(),
        VOLUME: persistent(local={"path": "/disk"}, nodeAffinity=affinity, mountOptions=["noatime", 1]),
        ("nodes", "", "edge1"): {"metadata": {"name": "edge1", "labels": {"disk": "fast"}}},
    }
    found = claims.resolved(context(rows))
    assert (found.spec.kind, found.spec.source, found.persistent) == ("local", {"path": "/disk"}, "pv1")
    assert found.mount_options == ("noatime", "1") and not found.spec.read_only
    only = mounting({"persistentVolumeClaim": {"claimName": "data", "readOnly": True}})
    assert claims.resolved(context(rows, only)).spec.read_only
    with pytest.raises(NotMounted, match="affinity"):
        claims.resolved(context({key: row for key, row in rows.items() if key[0] != "nodes"}))


@pytest.mark.parametrize(
    ("has", "had", "grows"),
    [("2Gi", "1Gi", "2Gi"), ("1Gi", "1Gi", ""), ("1Gi", "2Gi", ""), ("x", "1Gi", ""), ("2Gi", None, ""), ([], {}, "")],
)
def test_a_volume_grows_to_what_its_claim_has_not_noticed_yet(has: Any, had: Any, grows: str) -> None:
    bound = claim(status={"phase": "Bound", "capacity": {"storage": had}})
    volume = persistent(local={"path": "/d"}, capacity={"storage": has})
    assert claims.resolved(context({CLAIM: bound, VOLUME: volume})).grow_to == grows


def test_an_ephemeral_volume_has_a_claim_of_its_own_and_takes_no_other() -> None:
    ephemeral = mounting({"ephemeral": {"volumeClaimTemplate": {"spec": {}}}})
    own = ("persistentvolumeclaims", "default", "web-v")
    volume = persistent(hostPath={"path": "/disk"})
    with pytest.raises(NotMounted, match='"web-v" was not created for this pod'):
        claims.resolved(context({own: claim(), VOLUME: volume}, ephemeral))
    for owners in ("x", [{"uid": "u1"}], [{"uid": "other", "controller": True}]):
        foreign = claim(metadata={"uid": "c1", "ownerReferences": owners})
        with pytest.raises(NotMounted, match="not created for this pod"):
            claims.resolved(context({own: foreign, VOLUME: volume}, ephemeral))
    ours = claim(metadata={"uid": "c1", "ownerReferences": [{"uid": "u1", "controller": True}]})
    assert claims.resolved(context({own: ours, VOLUME: volume}, ephemeral)).spec.kind == "hostPath"


@pytest.mark.parametrize("name", ["", "..", "a/b", 7, "x" * 300])
def test_a_claim_has_the_name_of_an_object(name: Any) -> None:
    with pytest.raises(Invalid, match="claimName"):
        mounting({"persistentVolumeClaim": {"claimName": name}})


def manager(root: Path, rows: Rows) -> VolumeManager:
    return VolumeManager(root / "volumes", find=lambda *key: rows.get(key), node="edge1", host_ip="1.2.3.4")


def test_the_directory_of_a_claim_is_mounted_and_stays_when_the_pod_goes(tmp_path: Path) -> None:
    async def scenario() -> None:
        disk = tmp_path / "disk"
        rows = {CLAIM: claim(), VOLUME: persistent(local={"path": str(disk)})}
        volumes, wanted = manager(tmp_path, rows), mounting()
        await volumes.attach(wanted, wanted.containers[0])
        with pytest.raises(NotMounted, match="No such file"):
            volumes.mount(wanted, wanted.containers[0], "", {})
        assert volumes.claims(wanted) == [] and volumes.over_limit(wanted) == ""
        disk.mkdir()
        (disk / "kept").touch()
        (bind,) = volumes.mount(wanted, wanted.containers[0], "", {})
        assert (bind.source, bind.read_only) == (disk, False)
        assert volumes.claims(wanted) == [("data", disk)]
        only = mounting({"persistentVolumeClaim": {"claimName": "data", "readOnly": True}})
        (bind,) = volumes.mount(only, only.containers[0], "", {})
        assert bind.read_only
        for known in (wanted, None):
            await volumes.detach(wanted.uid, known)
            volumes.remove(wanted.uid, known)
            assert (disk / "kept").exists()

    asyncio.run(scenario())


def test_a_local_volume_is_a_directory_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, words in (
        (str(tmp_path / "file"), "not a directory"),
        ("relative", "absolute"),
        ("/a/../b", "absolute"),
        ("", "absolute"),
    ):
        rows = {CLAIM: claim(), VOLUME: persistent(local={"path": path})}
        with pytest.raises(NotMounted, match=words):
            registry.volume(context(rows)).mount()


def test_fs_group_is_given_to_all_files_and_follows_no_link(tmp_path: Path) -> None:
    root, outside = tmp_path / "v", tmp_path / "outside"
    (root / "d").mkdir(parents=True, mode=0o700)
    outside.write_text("x")
    outside.chmod(0o600)
    (root / "d/f").write_text("x")
    (root / "d/f").chmod(0o400)
    (root / "link").symlink_to(outside)
    os.mkfifo(root / "pipe", 0o600)
    group = os.getgid()
    ownership.give(root, group, on_mismatch_only=True)
    modes = [stat.S_IMODE((root / path).stat().st_mode) for path in (".", "d", "d/f")]
    assert modes[0] & 0o7070 == 0o2070 and modes[1:] == [0o2770, 0o660]
    assert stat.S_IMODE(outside.stat().st_mode) == 0o600
    (root / "d/f").chmod(0o400)
    ownership.give(root, group, on_mismatch_only=True)
    assert stat.S_IMODE((root / "d/f").stat().st_mode) == 0o400  # the root said that it was done
    ownership.give(root, group, on_mismatch_only=False)
    assert stat.S_IMODE((root / "d/f").stat().st_mode) == 0o660


def test_only_pods_that_want_it_are_spared_the_walk() -> None:
    assert not pod(securityContext={"fsGroup": 7}).fs_group_on_mismatch
    assert pod(securityContext={"fsGroup": 7, "fsGroupChangePolicy": "OnRootMismatch"}).fs_group_on_mismatch
    with pytest.raises(Invalid, match="fsGroupChangePolicy"):
        pod(securityContext={"fsGroupChangePolicy": "Never"})


def nfs_volume(directory: Path, rows: Rows | None = None, **source: Any) -> Volume:
    spec = {"server": "10.0.0.5", "path": "/export", **source}
    return registry.volume(context(rows or {}, mounting({"nfs": spec}), directory))


def test_an_export_is_mounted_by_the_machines_own_program(tmp_path: Path) -> None:
    directory = tmp_path / "v"
    plain = nfs_volume(directory)
    assert isinstance(plain, nfs.NfsVolume) and isinstance(plain, RemoteVolume)
    assert plain.command() == ["mount", "-t", "nfs", "--", "10.0.0.5:/export", str(directory)]
    rows = {
        CLAIM: claim(),
        VOLUME: persistent(nfs={"server": "fd00::5", "path": "/e"}, mountOptions=["nfsvers=4.2", "soft"]),
    }
    of_claim = mounting({"persistentVolumeClaim": {"claimName": "data", "readOnly": True}})
    found = registry.volume(context(rows, of_claim, directory))
    assert isinstance(found, nfs.NfsVolume)
    assert found.command() == [
        "mount", "-t", "nfs", "-o", "nfsvers=4.2,soft,ro", "--", "[fd00::5]:/e", str(directory),
    ]  # fmt: skip
    with pytest.raises(NotMounted, match="10.0.0.5:/export is not mounted"):
        plain.mount()
    for missing in ("server", "path"):
        with pytest.raises(Invalid, match=missing):
            nfs_volume(directory, **{missing: ""})


def test_what_mount_says_is_what_the_pod_waits_with(tmp_path: Path) -> None:
    """The real mount(8): whatever is missing here, a kernel with NFS, rights or a server, it says so, and nothing is mounted."""

    async def scenario() -> None:
        directory = tmp_path / "v"
        export = nfs_volume(directory, server="127.0.0.1", path="/nothing-is-exported-here")
        assert isinstance(export, RemoteVolume)
        with pytest.raises(NotMounted, match="127.0.0.1:/nothing-is-exported-here: ."):
            await export.attach()
        assert not export.recover()
        await export.detach()
        assert not directory.exists()

    asyncio.run(scenario())


def ended(pid: int) -> None:
    """Returns when the process is over."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    assert select.select([fd], [], [], 60.0)[0]
    os.close(fd)


def test_a_mount_that_is_given_up_ends_with_all_that_it_has_started(tmp_path: Path) -> None:
    async def scenario() -> None:
        pid = tmp_path / "pid"
        script = f"sleep 1000 & echo $! > {pid}.new; mv {pid}.new {pid}; wait"
        running = asyncio.create_task(nfs.run(["sh", "-c", script]))
        while not pid.exists():
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        ended(int(pid.read_text()))

    asyncio.run(scenario())


def test_a_mount_that_hangs_or_fails_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        assert await nfs.run(["no-such-program-here"]) == "no-such-program-here is not on this node"
        assert await nfs.run(["sh", "-c", "echo a  b >&2; exit 3"]) == "a b"
        assert await nfs.run(["sh", "-c", "exit 3"]) == "sh ended with status 3"
        assert await nfs.run(["true"]) == ""
        monkeypatch.setattr(nfs, "TIMEOUT", 0.5)
        assert await nfs.run(["sleep", "1000"]) == "no answer within 0.5 s"

    asyncio.run(scenario())


def test_how_full_claims_are_and_one_that_hangs_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs, release, asked, ask = tmp_path / "hangs", threading.Event(), list[Path](), os.statvfs

    def statvfs(path: Path) -> os.statvfs_result:
        asked.append(path)
        if path == hangs:
            release.wait()
        return ask(tmp_path)

    async def scenario() -> list[ClaimUse]:
        stats = ClaimStats(executor)
        while True:
            found = await stats.read([("default", "data", tmp_path), ("default", "slow", hangs)])
            if len(asked) > 3 and found:
                return found

    monkeypatch.setattr("kubeedge.appengine.volumes.claim_stats.os.statvfs", statvfs)
    with ThreadPoolExecutor(2) as executor:
        try:
            found = asyncio.run(scenario())
        finally:
            release.set()
    assert asked.count(hangs) == 1
    (use,) = found
    assert use.name == "data" and 0 < use.used + use.available <= use.capacity and use.inodes_free <= use.inodes
