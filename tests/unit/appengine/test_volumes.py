"""Volumes on disk: swapped at once, and never a way out of them. (Mounts need root: tests/netns.)"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from kubeedge.api.pod import VOLUME_KINDS, Mount, VolumeSpec
from kubeedge.api.service_accounts import RESOURCE, IssuedToken, KeptTokens
from kubeedge.api.trust_bundles import wanted_of
from kubeedge.appengine.node_api import NodeApi
from kubeedge.appengine.resolve import Missing
from kubeedge.appengine.runtime import mounts
from kubeedge.appengine.runtime.base import StartError
from kubeedge.appengine.volumes import claims, registry, sub_path
from kubeedge.appengine.volumes import files as volume_files
from kubeedge.appengine.volumes.base import Volume, VolumeContext
from kubeedge.appengine.volumes.contents import Files
from kubeedge.appengine.volumes.manager import VolumeManager
from kubeedge.appengine.volumes.projections import Projection
from kubeedge.errors import Invalid
from kubeedge.kit.trees import used_bytes
from tests.unit.appengine.world import container, pod


def write(directory: Path, files: Files) -> bool:
    return volume_files.write(directory, files, default_mode=0o640, group=None)


def volume(kind: str, source: dict[str, object], directory: Path = Path("/none")) -> Volume:
    spec = VolumeSpec("v", kind, source)
    return registry.volume(VolumeContext(pod=pod(), spec=spec, directory=directory, find=lambda *_: None))


def content(directory: Path) -> dict[str, bytes]:
    """As a container sees it: through the links."""
    return {
        str(Path(root, name).relative_to(directory)): Path(root, name).read_bytes()
        for root, _, names in os.walk(directory, followlinks=True)
        for name in names
        if not Path(root, name).relative_to(directory).parts[0].startswith("..")
    }


def test_an_empty_dir_has_the_mode_that_the_kubelet_gives_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In memory the sticky bit, as a tmpfs has it by default."""
    options: list[str] = []
    monkeypatch.setattr(mounts, "mount", lambda *arguments: options.append(arguments[-1]))
    for source, group, mode in (
        ({}, None, 0o777), ({}, os.getgid(), 0o2777),
        ({"medium": "Memory"}, None, 0o1777), ({"medium": "Memory"}, os.getgid(), 0o3777),
    ):  # fmt: skip
        owner = pod(securityContext={} if group is None else {"fsGroup": group})
        directory = tmp_path / f"{mode:o}"
        spec = VolumeSpec("v", "emptyDir", source)
        made = registry.volume(VolumeContext(pod=owner, spec=spec, directory=directory, find=lambda *_: None)).mount()
        assert stat.S_IMODE(made.stat().st_mode) == mode
    assert options == ["mode=1777", "mode=1777"]


def test_files_are_written_with_their_modes(tmp_path: Path) -> None:
    v = tmp_path / "v"
    assert write(v, {"a": (b"1", None), "d/b": (b"2", 0o400)})
    assert content(v) == {"a": b"1", "d/b": b"2"}
    assert stat.S_IMODE((v / "a").stat().st_mode) == 0o640
    assert stat.S_IMODE((v / "d/b").stat().st_mode) == 0o400


def test_a_change_is_swapped_in_by_one_link_and_the_old_files_go(tmp_path: Path) -> None:
    v = tmp_path / "v"
    write(v, {"a": (b"1", None), "gone": (b"1", None)})
    first = os.readlink(v / "..data")
    assert write(v, {"a": (b"2", None), "new": (b"3", None)})
    assert os.readlink(v / "..data") != first and not (v / first).exists()
    assert content(v) == {"a": b"2", "new": b"3"}
    assert os.readlink(v / "a") == "..data/a" and not (v / "gone").is_symlink()


def test_what_did_not_change_is_not_written(tmp_path: Path) -> None:
    v = tmp_path / "v"
    write(v, {"a": (b"1", None)})
    before = os.readlink(v / "..data")
    assert not write(v, {"a": (b"1", None)})
    assert os.readlink(v / "..data") == before


def test_a_volume_that_a_power_cut_left_half_written_is_written_again(tmp_path: Path) -> None:
    v = tmp_path / "v"
    write(v, {"a": (b"1", None)})
    (v / os.readlink(v / "..data") / "a").write_bytes(b"")  # the data did not reach the disk, the names did
    (v / "..2").mkdir()  # and somebody was at the next one
    assert write(v, {"a": (b"1", None)})
    assert content(v) == {"a": b"1"}


def test_a_sub_path_of_a_configmap_is_the_file_itself(tmp_path: Path) -> None:
    v = tmp_path / "v"
    write(v, {"a": (b"1", None)})
    found = sub_path.bind(Mount("v", "/etc/a", False, "a"), v, tmp_path / "pin", read_only=True)
    assert found.source.read_bytes() == b"1" and not found.source.is_symlink() and found.read_only
    with pytest.raises(StartError, match="is not in volume v"):
        sub_path.bind(Mount("v", "/etc/a", False, "other"), v, tmp_path / "pin", read_only=True)


@pytest.mark.parametrize("links", [{"a": "/etc"}, {"a": ".."}, {"a": "b"}])
def test_a_sub_path_does_not_follow_links_of_containers(tmp_path: Path, links: dict[str, str]) -> None:
    v, outside = tmp_path / "v", tmp_path / "outside"
    v.mkdir()
    outside.mkdir()
    (v / "b").mkdir()
    for name, target in links.items():
        (v / name).symlink_to(target)
    for path in ("a", "a/made"):
        with pytest.raises(StartError, match="subPath"):
            sub_path.bind(Mount("v", "/m", False, path), v, tmp_path / "pin", read_only=False)
    assert not (tmp_path / "made").exists() and not (v / "b/made").exists() and not Path("/etc/made").exists()


@pytest.mark.parametrize("kind", ["Directory", "File", "Socket", "CharDevice", "BlockDevice"])
def test_a_host_path_must_be_of_its_type(tmp_path: Path, kind: str) -> None:
    (tmp_path / "missing").unlink(missing_ok=True)
    with pytest.raises(StartError, match=f"is not a {kind}"):
        volume("hostPath", {"path": str(tmp_path / "missing"), "type": kind}).mount()


def test_host_paths_are_made_when_their_type_says_so(tmp_path: Path) -> None:
    def path(kind: str, name: str) -> Path:
        return volume("hostPath", {"path": str(tmp_path / name), "type": kind}).mount()

    assert path("DirectoryOrCreate", "d/e").is_dir() and path("FileOrCreate", "f/g").is_file()
    assert path("", "plain").is_dir()
    for bad in ("relative", "/a/../b", ""):
        with pytest.raises(StartError, match="not an absolute path"):
            volume("hostPath", {"path": bad}).mount()


def test_an_empty_dir_is_for_everybody_and_keeps_its_content(tmp_path: Path) -> None:
    directory = tmp_path / "v"
    empty = volume("emptyDir", {}, directory)
    assert not empty.recover()
    empty.mount()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o777
    (directory / "kept").touch()
    assert empty.recover()
    empty.mount()
    assert (directory / "kept").exists()
    empty.unmount()
    assert not directory.exists()


@pytest.mark.parametrize(("mode", "expected"), [(0o400, 0o440), (0o600, 0o640), (0o444, 0o444), (0o000, 0o440)])
def test_fs_group_lets_the_group_read(tmp_path: Path, mode: int, expected: int) -> None:
    files: Files = {"default": (b"1", None), "d/own": (b"2", mode)}
    volume_files.write(tmp_path / "v", files, default_mode=mode, group=os.getgid())
    for name in files:
        assert stat.S_IMODE((tmp_path / "v" / name).stat().st_mode) == expected
    volume_files.write(tmp_path / "w", files, default_mode=mode, group=None)
    assert stat.S_IMODE((tmp_path / "w/default").stat().st_mode) == mode


def test_which_volumes_hold_secrets() -> None:
    def holds_secrets(kind: str, source: dict[str, object]) -> bool:
        found = volume(kind, source)
        assert isinstance(found, Projection)
        return found.holds_secrets

    def projected(*sources: dict[str, object]) -> bool:
        return holds_secrets("projected", {"sources": list(sources)})

    assert holds_secrets("secret", {"secretName": "s"})
    assert projected({"configMap": {"name": "c"}}, {"secret": {"name": "s"}})
    assert projected({"serviceAccountToken": {"path": "t"}})
    assert not projected({"configMap": {"name": "c"}})
    assert not holds_secrets("configMap", {"name": "c"})


def test_what_a_volume_uses_counts_each_file_once_and_follows_no_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "large").write_bytes(b"x" * 4_000_000)
    inside = tmp_path / "v"
    (inside / "d").mkdir(parents=True)
    (inside / "d/a").write_bytes(b"x" * 1_000_000)
    os.link(inside / "d/a", inside / "b")
    (inside / "link").symlink_to(outside)
    assert 1_000_000 <= used_bytes(inside) < 1_500_000


def test_every_kind_that_the_api_accepts_has_a_class() -> None:
    """And each of them keeps the protocol: what is not there is not recovered, and unmounting it is nothing."""
    assert set(registry.KINDS) - {"local"} == set(VOLUME_KINDS) - set(claims.KINDS)
    for kind in sorted(registry.KINDS.keys() - {"csi"}):
        found = volume(kind, {"path": "/nonexistent-of-this-test"}, Path("/nonexistent-of-this-test"))
        assert not found.recover() and found.over_limit() == ""
        found.unmount()
        found.unmount()
    with pytest.raises(StartError, match="CSI driver d is not registered on this node"):
        volume("csi", {"driver": "d"})
    with pytest.raises(StartError, match="volumes of type iscsi are not supported"):
        volume("iscsi", {})


def test_volumes_of_a_pod_are_removed_whether_or_not_it_is_known_what_they_were(tmp_path: Path) -> None:
    manager = VolumeManager(tmp_path, find=lambda *_: {"data": {"k": "1"}}, node="n", host_ip="1.2.3.4")
    (tmp_path / "host").mkdir()
    specs = [
        {"name": "e", "emptyDir": {}},
        {"name": "c", "configMap": {"name": "c"}},
        {"name": "h", "hostPath": {"path": str(tmp_path / "host")}},
    ]
    mounts = [{"name": s["name"], "mountPath": f"/{s['name']}"} for s in specs]
    wanted = pod(volumes=specs, containers=[container(volumeMounts=mounts)])
    for known in (wanted, None):
        binds = manager.mount(wanted, wanted.containers[0], "10.0.0.1", {})
        assert [b.read_only for b in binds] == [False, True, False]
        assert (binds[1].source / "k").read_text() == "1"
        manager.remove(wanted.uid, known)
        assert not (tmp_path / wanted.uid).exists() and (tmp_path / "host").is_dir()


def api_volume(directory: Path, rows: dict[str, Any], api: NodeApi | None = None) -> Volume:
    """What admission adds to a pod, with `rows` as what the node has, by resource."""
    sources = [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
    ]
    spec = VolumeSpec("v", "projected", {"sources": sources})

    def find(resource: str, namespace: str, name: str) -> Any:
        return rows.get(resource)

    return registry.volume(VolumeContext(pod=pod(), spec=spec, directory=directory, find=find, api=api))


def tokens(uid: str, *, seconds: int = 3607) -> Any:
    row = KeptTokens(uid, "default", (IssuedToken("", seconds, "a.b.c", 0.0, 3607.0),))
    return json.loads(row.encode())


def test_a_pod_has_its_own_token_and_what_it_trusts(tmp_path: Path) -> None:
    root = {"data": {"ca.crt": "CLOUD\n"}}
    (tmp_path / "own.crt").write_text("NODE\n")
    api = NodeApi("100.64.0.1", 10550, tmp_path / "own.crt")
    made = api_volume(tmp_path / "v", {RESOURCE: tokens(pod().uid), "configmaps": root}, api)
    assert isinstance(made, Projection) and made.holds_secrets
    made.refresh()
    assert content(tmp_path / "v") == {"token": b"a.b.c", "ca.crt": b"CLOUD\nNODE\n", "namespace": b"default"}
    plain = api_volume(tmp_path / "w", {RESOURCE: tokens(pod().uid), "configmaps": root})
    plain.refresh()
    assert content(tmp_path / "w")["ca.crt"] == b"CLOUD\n"
    without = api_volume(
        tmp_path / "x", {RESOURCE: tokens(pod().uid), "configmaps": root}, NodeApi("::1", 1, tmp_path / "no")
    )
    without.refresh()
    assert content(tmp_path / "x")["ca.crt"] == b"CLOUD\n"
    assert (
        api.variables()["KUBERNETES_SERVICE_HOST"] == "100.64.0.1"
        and api.variables()["KUBERNETES_SERVICE_PORT"] == "10550"
    )


@pytest.mark.parametrize(
    "row",
    [
        None,
        tokens("another"),
        tokens("u1", seconds=600),
        {},
        {"pod": "u1", "account": "a", "tokens": [{}]},
        {"pod": 1},
        [],
        "x",
    ],
    ids=["none", "of another pod", "another request", "empty", "damaged", "half", "list", "text"],
)
def test_a_pod_without_its_token_waits_and_says_for_what(tmp_path: Path, row: Any) -> None:
    made = api_volume(tmp_path / "v", {RESOURCE: row, "configmaps": {"data": {"ca.crt": "CLOUD"}}})
    with pytest.raises((Missing, Invalid), match="token"):
        made.refresh()


def test_a_trust_bundle_is_a_file_of_what_the_cloud_has_found(tmp_path: Path) -> None:
    source = {"signerName": "x.example/s", "labelSelector": {}, "path": "ca/bundle.pem"}
    rows = {("clustertrustbundles", "", wanted_of(source).row): {"trustBundle": "PEM\n"}}

    def made(**more: Any) -> dict[str, bytes]:
        spec = VolumeSpec("v", "projected", {"sources": [{"clusterTrustBundle": {**source, **more}}]})
        context = VolumeContext(
            pod=pod(), spec=spec, directory=tmp_path / str(len(more)), find=lambda *key: rows.get(key)
        )
        return content(registry.volume(context).mount())

    assert made() == {"ca/bundle.pem": b"PEM\n"}
    assert made(signerName="y.example/s", optional=True) == {"ca/bundle.pem": b""}
    with pytest.raises(Missing, match=r"no ClusterTrustBundle of signer y\.example/s"):
        made(signerName="y.example/s", optional=False)
    with pytest.raises(Missing, match="no ClusterTrustBundle named z"):
        made(name="z")
    for wrong in ({"signerName": ""}, {"path": "../x"}, {"labelSelector": {"matchLabels": {"a": "b" * 20_000}}}):
        with pytest.raises(Invalid):
            made(**wrong)


@pytest.mark.parametrize("kind", ["configMap", "secret", "projected"])
def test_an_empty_list_of_items_is_as_good_as_none(kind: str) -> None:
    """Clients that render every field write one, and the kubelet takes all keys then."""
    objects = {"configmaps": {"data": {"a": "1"}}, "secrets": {"data": {"a": "MQ=="}}}
    sources: dict[str, dict[str, object]] = {
        "configMap": {"name": "x", "items": []},
        "secret": {"secretName": "x", "items": []},
        "projected": {"sources": [{"configMap": {"name": "x", "items": []}}]},
    }
    spec = VolumeSpec("v", kind, sources[kind])
    context = VolumeContext(pod=pod(), spec=spec, directory=Path("/none"), find=lambda resource, *_: objects[resource])
    made = registry.volume(context)
    assert isinstance(made, Projection) and made.contents() == {"a": (b"1", None)}
