"""PersistentVolumeClaims of a real cluster on edge nodes: the cluster binds and schedules, the node mounts, with the cloud and without."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kit.cluster.site import Site
from tests.kit.topology import until
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
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": claim_spec(of, **spec)}


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
    assert "first" in logs(site, "edge2", "writer")
    assert (disk / "before").stat().st_gid == 4711
    metrics = site.cluster.kubectl("get", "--raw", "/api/v1/nodes/edge2/proxy/metrics")
    labels = 'namespace="default",persistentvolumeclaim="journal"'
    for figure in ("capacity_bytes", "available_bytes", "used_bytes", "inodes", "inodes_free", "inodes_used"):
        assert f"kubelet_volume_stats_{figure}{{{labels}}}" in metrics

    def starts() -> int:
        return len((disk / "starts").read_text().splitlines())

    assert starts() == 1
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
    last = ""

    def waiting() -> bool:
        nonlocal last
        statuses = site.cluster.json("get", "pod", "waits").get("status", {}).get("containerStatuses") or [{}]
        state = statuses[0].get("state", {}).get("waiting", {})
        last = f"{state.get('reason')}: {state.get('message')}"
        return last == 'ContainerCreating: persistentvolumeclaim "late" is not bound to a volume yet'

    try:
        eventually(waiting, "the words")
    except TimeoutError as exc:
        raise AssertionError(f"the last thing seen: {last}") from exc

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
