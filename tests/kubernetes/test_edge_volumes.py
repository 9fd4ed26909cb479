"""PersistentVolumeClaims of a real cluster on edge nodes: the cluster binds and schedules, the node mounts, with the cloud and without."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.cluster.site import Site
from tests.kit.topology import until
from tests.kit.upstream import build
from tests.kubernetes.workloads import eventually, gone, logs, pod, wait_ready

pytestmark = pytest.mark.root

CLASS = "edge-disks"


def storage_class() -> dict[str, Any]:
    return {
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": CLASS},
        "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer",
    }  # fmt: skip


def volume(name: str, node: str, of: str = CLASS, **source: Any) -> dict[str, Any]:
    on_node = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return {
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": of,
            "persistentVolumeReclaimPolicy": "Retain",
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [on_node]}]}}, **source,
        },
    }  # fmt: skip


def claim_spec(of: str = CLASS, **spec: Any) -> dict[str, Any]:
    return {
        "accessModes": ["ReadWriteOnce"], "storageClassName": of,
        "resources": {"requests": {"storage": "1Gi"}}, **spec,
    }  # fmt: skip


def claim(name: str, of: str = CLASS, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": claim_spec(of, **spec),
    }


def user(name: str, command: str, source: dict[str, Any], **spec: Any) -> dict[str, Any]:
    made = pod(name, command=command, volumes=[{"name": "data", **source}], **spec)
    made["spec"]["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    return made


def mounts(name: str) -> dict[str, Any]:
    return {"persistentVolumeClaim": {"claimName": name}}


def phase(site: Site, name: str) -> str:
    return str(site.cluster.json("get", "pvc", name).get("status", {}).get("phase"))


def test_a_claim_is_bound_to_the_disk_of_its_node_and_is_there_without_the_cloud(site: Site) -> None:
    disk = site.directory / "disk1"
    disk.mkdir()
    (disk / "before").write_text("first")
    site.cluster.apply(storage_class(), volume("disk1", "edge2", local={"path": str(disk)}), claim("journal"))
    eventually(lambda: phase(site, "journal") == "Pending", "it waits for its first consumer")
    command = "cat /data/before; date +%s%N >> /data/starts; exec sleep 100000"
    anywhere = user("writer", command, mounts("journal"), nodeSelector={})
    anywhere["spec"]["securityContext"] = {"fsGroup": 4711}
    site.cluster.apply(anywhere)
    found = wait_ready(site, "writer")
    assert found["spec"]["nodeName"] == "edge2" and phase(site, "journal") == "Bound"  # the disk decides
    eventually(lambda: "first" in logs(site, "edge2", "writer"), "what it has read")
    assert (disk / "before").stat().st_gid == 4711
    labels = 'namespace="default",persistentvolumeclaim="journal"'

    def without() -> list[str]:
        metrics = site.cluster.kubectl("get", "--raw", "/api/v1/nodes/edge2/proxy/metrics")
        figures = ("capacity_bytes", "available_bytes", "used_bytes", "inodes", "inodes_free", "inodes_used")
        return [figure for figure in figures if f"kubelet_volume_stats_{figure}{{{labels}}}" not in metrics]

    eventually(lambda: without() == [], "figures of the volume")

    def starts() -> int:
        return len((disk / "starts").read_text().splitlines())

    eventually(lambda: starts() == 1, "its first start")
    site.stop_cloud()
    try:
        site.edges["edge2"].power_cut()
        site.start_agent("edge2")
        eventually(lambda: starts() == 2, "its second start, without the cloud")
    finally:
        site.start_cloud([f"default={site.kubeconfig()}"])
    wait_ready(site, "writer")
    site.cluster.kubectl("delete", "pod", "writer", timeout=90)
    gone(site, "pod", "writer")
    assert starts() == 2 and phase(site, "journal") == "Bound"
    site.cluster.kubectl("delete", "pvc", "journal", timeout=90)
    site.cluster.kubectl("delete", "pv", "disk1", timeout=90)


def test_a_pod_waits_in_words_for_its_claim_and_starts_when_it_is_bound(site: Site) -> None:
    """nodeName: the scheduler, which would have waited, is not asked."""
    disk = site.directory / "disk2"
    disk.mkdir()
    site.cluster.apply(claim("late", "by-hand"), user("waits", "exec sleep 100000", mounts("late"), nodeName="edge1"))

    def waiting() -> bool:
        statuses = site.cluster.json("get", "pod", "waits").get("status", {}).get("containerStatuses") or [{}]
        state = statuses[0].get("state", {}).get("waiting", {})
        last = f"{state.get('reason')}: {state.get('message')}"
        return last == 'ContainerCreating: persistentvolumeclaim "late" is not bound to a volume yet'

    eventually(waiting, "the words")

    def events() -> list[str]:
        found = site.cluster.json("get", "events", "--field-selector=involvedObject.name=waits,reason=FailedMount")
        return [event["message"] for event in found["items"]]

    eventually(lambda: any('"late" is not bound' in message for message in events()), "an Event")
    site.cluster.apply(volume("disk2", "edge1", "by-hand", hostPath={"path": str(disk)}))
    wait_ready(site, "waits")
    site.cluster.kubectl("delete", "pod", "waits", timeout=90)
    site.cluster.kubectl("delete", "pvc", "late", timeout=90)
    site.cluster.kubectl("delete", "pv", "disk2", timeout=90)


def test_an_ephemeral_claim_lives_as_long_as_its_pod(site: Site) -> None:
    disk = site.directory / "disk3"
    disk.mkdir()
    site.cluster.apply(volume("disk3", "edge1", "scratch", local={"path": str(disk)}))
    template = {"ephemeral": {"volumeClaimTemplate": {"spec": claim_spec("scratch")}}}
    site.cluster.apply(user("temporary", "echo kept > /data/file; exec sleep 100000", template))
    wait_ready(site, "temporary")
    assert phase(site, "temporary-data") == "Bound"
    until(lambda: (disk / "file").exists(), timeout=60, what="the file", interval=0.2)
    site.cluster.kubectl("delete", "pod", "temporary", timeout=90)
    gone(site, "pvc", "temporary-data")
    assert (disk / "file").read_text() == "kept\n"  # a volume that is retained is not ours to empty
    site.cluster.kubectl("delete", "pv", "disk3", timeout=90)


class MockDriver:
    """Upstream's mock CSI driver at edge1; what it is asked is in `calls`."""

    NAME = "mock.csi.test"

    def __init__(self, site: Site) -> None:
        self._site, self.log = site, site.directory / "csi-mock.log"
        self.kubelet = site.directory / "edge1/var/lib/kubelet"
        self.backing = site.directory / "csi"
        self.backing.mkdir()
        self.start()

    def start(self) -> None:
        self.process: subprocess.Popen[bytes] = self._site.edges["edge1"].spawn(
            str(build.program("csi-mock")), "-kubelet", str(self.kubelet), "-backing", str(self.backing),
            "-name", self.NAME, "-expand", log=self.log,
        )  # fmt: skip

    def stop(self) -> None:
        self._site.edges["edge1"].signal(self.process, signal.SIGKILL)
        self.process.wait(timeout=60)

    def calls(self, method: str) -> list[dict[str, Any]]:
        """Those that have been answered, by the last part of their name."""
        lines = self.log.read_text().splitlines()
        found = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [call for call in found if call["method"].endswith(f"/{method}")]

    def published(self, pod_uid: str, volume: str) -> Path:
        return self.kubelet / "pods" / pod_uid / "volumes/kubernetes.io~csi" / volume / "mount"


@pytest.fixture(scope="module")
def driver(site: Site) -> Iterator[MockDriver]:
    modes = {"attachRequired": False, "podInfoOnMount": True, "volumeLifecycleModes": ["Persistent", "Ephemeral"]}
    site.cluster.apply(
        {"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": MockDriver.NAME}, "spec": modes}
    )
    yield MockDriver(site)
    site.cluster.kubectl("delete", "csidriver", MockDriver.NAME, timeout=90)


def csi_volume(site: Site, name: str, handle: str, namespace: str = "default") -> None:
    """A volume that was there before, and the claim that it is kept for."""
    source = {
        "driver": MockDriver.NAME, "volumeHandle": handle, "fsType": "ext4", "volumeAttributes": {"kind": "fast"},
        "nodeStageSecretRef": {"name": "for-driver", "namespace": namespace},
    }  # fmt: skip
    made = volume(name, "edge1", "csi", csi=source, claimRef={"namespace": "default", "name": name})
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "for-driver"}, "stringData": {"key": "value"}}
    site.cluster.apply(secret, made, claim(name, "csi"))


def test_a_driver_that_nobody_here_wrote_registers_and_serves_a_claim(site: Site, driver: MockDriver) -> None:
    eventually(lambda: len(driver.calls("registered")) > 0, "it is registered")
    assert driver.calls("registered")[0]["request"] == {"plugin_registered": True}

    def drivers() -> list[dict[str, Any]]:
        found = site.cluster.kubectl("get", "csinode", "edge1", "--ignore-not-found", "-o", "json")
        return list((json.loads(found or "{}").get("spec") or {}).get("drivers") or [])

    eventually(lambda: [one["name"] for one in drivers()] == [driver.NAME], "the CSINode")
    assert drivers()[0]["nodeID"] == driver.NAME and drivers()[0]["topologyKeys"] == ["io.kubernetes.storage.mock/node"]

    def label() -> str:
        return str(site.cluster.json("get", "node", "edge1")["metadata"]["labels"]["io.kubernetes.storage.mock/node"])

    eventually(lambda: label() == "some-mock-node", "the node's label")

    csi_volume(site, "mocked", "1")
    eventually(lambda: phase(site, "mocked") == "Bound", "the claim is bound")
    larger = {"spec": {"capacity": {"storage": "2Gi"}}}  # as an external-resizer says it
    site.cluster.kubectl("patch", "pv", "mocked", "-p", json.dumps(larger))
    command = "date +%s%N >> /data/starts; exec sleep 100000"
    site.cluster.apply(user("first", command, mounts("mocked")), user("second", command, mounts("mocked")))
    uids = [wait_ready(site, name)["metadata"]["uid"] for name in ("first", "second")]
    (staged, *again), published = driver.calls("NodeStageVolume"), driver.calls("NodePublishVolume")
    request = staged["request"]
    assert (request["volume_id"], request["secrets"]) == ("1", {"key": "value"})
    assert request["volume_context"]["kind"] == "fast"
    assert request["volume_capability"]["AccessType"]["Mount"] == {"fs_type": "ext4"}
    assert all(call["request"]["staging_target_path"] == request["staging_target_path"] for call in again)
    info = published[0]["request"]["volume_context"]
    assert info["csi.storage.k8s.io/pod.uid"] in uids and info["csi.storage.k8s.io/ephemeral"] == "false"
    eventually(lambda: driver.calls("NodeExpandVolume") != [], "the volume grows")
    assert driver.calls("NodeExpandVolume")[0]["request"]["capacity_range"] == {"required_bytes": 2**31}

    def capacity() -> str:
        return str(site.cluster.json("get", "pvc", "mocked")["status"]["capacity"]["storage"])

    eventually(lambda: capacity() == "2Gi", "the claim has grown, and says so")
    starts = driver.backing / "mocked/starts"
    eventually(lambda: len(starts.read_text().splitlines()) == 2, "both have written to it")

    before = len(driver.calls("NodePublishVolume"))
    site.edges["edge1"].signal(
        site.agents["edge1"], signal.SIGKILL
    )  # the agent is killed in the middle of its life: nothing of it is asked again
    site.agents["edge1"].wait(timeout=60)
    site.start_agent("edge1")
    eventually(lambda: len(driver.calls("registered")) > 1, "the driver is registered again")
    assert len(driver.calls("NodePublishVolume")) == before and driver.published(uids[0], "mocked").is_dir() is True
    site.cluster.kubectl("delete", "pod", "first", timeout=90)
    assert len(driver.calls("NodeUnpublishVolume")) == 1 and driver.calls("NodeUnstageVolume") == []
    assert not driver.published(uids[0], "mocked").exists()
    site.cluster.kubectl("delete", "pod", "second", timeout=90)
    assert len(driver.calls("NodeUnpublishVolume")) == 2 and len(driver.calls("NodeUnstageVolume")) == 1
    assert len(starts.read_text().splitlines()) == 2  # nothing behind the mount was deleted
    assert not Path(request["staging_target_path"]).exists()
    site.cluster.kubectl("delete", "pvc", "mocked", timeout=90)
    site.cluster.kubectl("delete", "pv", "mocked", timeout=90)


def test_a_driver_that_hangs_or_is_gone_stops_its_own_pods_alone(site: Site, driver: MockDriver) -> None:
    inline = {"csi": {"driver": driver.NAME, "volumeAttributes": {"a": "b"}}}
    (driver.backing / "hang").touch()
    site.cluster.apply(user("hangs", "exec sleep 100000", inline), pod("beside"))
    wait_ready(site, "beside")
    site.cluster.kubectl("delete", "pod", "beside", timeout=90)
    (driver.backing / "hang").unlink()
    uid = wait_ready(site, "hangs")["metadata"]["uid"]
    calls = [c for c in driver.calls("NodePublishVolume") if c["request"]["volume_context"].get("a") == "b"]
    assert calls and all(c["request"]["volume_context"]["csi.storage.k8s.io/ephemeral"] == "true" for c in calls)
    assert driver.published(uid, "data").is_dir()

    # the node's store forgets the pod while neither agent nor driver runs: what was recorded is taken back all the same
    driver.stop()
    site.cluster.kubectl("delete", "pod", "hangs", "--wait=false", timeout=90)

    def unmount_failed() -> bool:
        events = site.cluster.json("get", "events", "--field-selector=involvedObject.name=hangs,reason=FailedUnMount")
        return any("NodeUnpublishVolume" in e["message"] or driver.NAME in e["message"] for e in events["items"])

    eventually(unmount_failed, "the pod says why it does not end")
    assert site.cluster.kubectl("get", "pod", "hangs", "-o", "name").strip() == "pod/hangs"
    driver.start()
    eventually(lambda: not driver.published(uid, "data").exists(), "the volume is taken back")
    gone(site, "pod", "hangs")
