"""What drivers of volumes say and what is recorded of them, with hostile answers. (A real driver: tests/netns/test_csi.py.)"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kubeedge.appengine.csi import core
from kubeedge.appengine.csi.core import CsiVolumeSpec, DriverInfo
from kubeedge.appengine.csi.records import VolumeRecord, VolumeRecords
from kubeedge.errors import Invalid

GOOD = {"type": "CSIPlugin", "name": "a.b", "endpoint": "/run/a/csi.sock", "supported_versions": ["1.0.0"]}


def test_who_registers_is_a_csi_driver_of_version_1() -> None:
    assert core.check_plugin(GOOD) == ("a.b", Path("/run/a/csi.sock"))
    assert core.check_plugin({**GOOD, "endpoint": "unix:///x.sock", "supported_versions": ["v0.3", "v1"]})[1] == Path(
        "/x.sock"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"type": "DevicePlugin"}, "plugins of type DevicePlugin are not supported"),
        ({"type": ""}, "plugins of type"),
        ({"name": ""}, "is no name of a CSI driver"),
        ({"name": "../../etc"}, "is no name of a CSI driver"),
        ({"name": "a" * 64}, "is no name of a CSI driver"),
        ({"supported_versions": []}, "supports no version 1"),
        ({"supported_versions": ["0.3", "2.0", "11.0"]}, "supports no version 1"),
        ({"endpoint": ""}, "has no socket"),
        ({"endpoint": "tcp://1.2.3.4:5"}, "has no socket"),
        ({"endpoint": "/a/../b"}, "has no socket"),
        ({"endpoint": "/" + "a" * 107}, "has no socket"),
    ],
)
def test_a_plugin_that_is_none_is_told_why(change: dict[str, Any], words: str) -> None:
    with pytest.raises(Invalid, match=words):
        core.check_plugin({**GOOD, **change})


def test_what_a_driver_says_of_the_node_is_what_its_csinode_says() -> None:
    info = {"node_id": "n", "max_volumes_per_node": 5, "accessible_topology": {"segments": {"z/a": "1"}}}
    capabilities = {"capabilities": [{"rpc": {"type": 1}}, {"rpc": {}}, {}, {"rpc": {"type": 99}}]}
    made = core.driver_info("d", Path("/s"), info, capabilities)
    assert made.report() == {"name": "d", "nodeID": "n", "topologyKeys": ["z/a"], "allocatable": {"count": 5}}
    assert core.STAGE_UNSTAGE in made.capabilities and core.EXPAND not in made.capabilities
    assert "allocatable" not in core.driver_info("d", Path("/s"), {**info, "max_volumes_per_node": -1}, {}).report()
    many = {"segments": {str(n): "" for n in range(17)}}
    for bad in ({}, {"node_id": "x" * 193}, {"node_id": "n", "accessible_topology": many}):
        with pytest.raises(Invalid):
            core.driver_info("d", Path("/s"), bad, {})


def test_a_capability_says_how_the_volume_is_used() -> None:
    def spec(**changes: Any) -> CsiVolumeSpec:
        made = {"driver": "d", "handle": "h", "name": "v", "pod_uid": "u", "ephemeral": False, "read_only": False}
        return CsiVolumeSpec(**{**made, **changes})

    plain = spec(fs_type="xfs", mount_flags=("noatime",), access_modes=("ReadWriteMany",), group=7)
    assert plain.capability(frozenset()) == {
        "mount": {"fs_type": "xfs", "mount_flags": ["noatime"]}, "access_mode": {"mode": 5},
    }  # fmt: skip
    assert plain.capability(frozenset((core.VOLUME_MOUNT_GROUP,)))["mount"]["volume_mount_group"] == "7"
    assert spec(access_modes=("Strange",)).capability(frozenset())["access_mode"] == {"mode": 1}
    assert "secret" not in repr(spec(stage_secrets={"k": "secret"}, publish_secrets={"k": "secret"}))


def test_where_volumes_are_is_what_drivers_know_of_a_kubelet() -> None:
    assert core.target(Path("/k"), "u", "pv1") == Path("/k/pods/u/volumes/kubernetes.io~csi/pv1/mount")
    staged = core.staging(Path("/k"), "d", "../../h")
    assert staged.parts[:6] == ("/", "k", "plugins", "kubernetes.io", "csi", "d") and staged.name == "globalmount"
    assert core.ephemeral_handle("u", "v") != core.ephemeral_handle("u", "w")


def test_records_outlive_everything_but_their_own_end(tmp_path: Path) -> None:
    records = VolumeRecords(tmp_path / "csi")
    assert list(records) == []
    first, second = (VolumeRecord("u1", name, "d", "h", "/t", "/s") for name in ("a", "b"))
    for record in (first, second, first):
        records.keep(record)
    (tmp_path / "csi/torn.json").write_text('{"uid": "u1"')
    (tmp_path / "csi/odd.json").write_text(
        '{"uid": 7, "name": "a", "driver": "d", "handle": "h", "target": "", "staging": ""}'
    )
    (tmp_path / "csi/u2.c.new").write_text("{}")
    assert list(VolumeRecords(tmp_path / "csi")) == [first, second]
    records.discard(first)
    records.discard(first)
    assert list(records) == [second]


def test_a_driver_without_anything_reports_so() -> None:
    assert DriverInfo("d", Path("/s"), "n").report() == {"name": "d", "nodeID": "n", "topologyKeys": []}
