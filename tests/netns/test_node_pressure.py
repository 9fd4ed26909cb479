"""A real node whose disk is small: its images, what it evicts when the disk is full, what kubectl shows of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.kit import images
from tests.kit.topology import until
from tests.netns.test_join import KUBEEDGE, Site, site  # noqa: F401

pytestmark = pytest.mark.root
DISK = 64  # MiB; pods are evicted when less than a tenth is free


def pod(name: str, command: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": "demo:1", "command": ["sh", "-c", command]}
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"nodeName": "edge1", "terminationGracePeriodSeconds": 1, "restartPolicy": "Always", "containers": [container], **spec},
    }  # fmt: skip


def test_a_full_disk_costs_unused_images_and_the_pod_that_filled_it(site: Site) -> None:  # noqa: F811
    def image(*arguments: str) -> str:
        return site.machine.run(*KUBEEDGE, "image", *arguments, "--socket", str(site.root / "run/kubeedge/edge.sock"))

    def node() -> dict[str, Any]:
        return dict(json.loads(site.kubectl("get", "node", "edge1", "-o", "json")))

    def condition(kind: str) -> str:
        return str(next((c["status"] for c in node()["status"]["conditions"] if c["type"] == kind), ""))

    def phase(name: str) -> str:
        return site.kubectl("get", "pod", name, "-o", "jsonpath={.status.phase}/{.status.reason}")

    site.join()
    state = site.root / "var/lib/kubeedge/edge"
    state.mkdir(parents=True, exist_ok=True)
    site.machine.run("mount", "-t", "tmpfs", "-o", f"size={DISK}m,mode=700", "disk", str(state))  # of this host alone
    site.eviction = "[]"  # the defaults
    site.start_agent()
    for name in ("demo", "spare"):
        archive = images.build(site.directory / f"{name}.tar", f"{name}:1", files={"etc/name": name.encode()})
        image("import", str(archive))
    assert "docker.io/library/spare:1" in image("list")
    site.kubectl("apply", "-f", "-", input=json.dumps(pod("calm", "sleep 1000000")))
    until(lambda: phase("calm") == "Running/", what="calm runs")
    until(lambda: "library/demo:1" in json.dumps(node()["status"].get("images")), what="images of the node")
    shown = node()["status"]
    assert all(i["sizeBytes"] > 500_000 for i in shown["images"])
    assert int(shown["allocatable"]["memory"].removesuffix("Ki")) < int(shown["capacity"]["memory"].removesuffix("Ki"))
    with pytest.raises(RuntimeError, match="a container of this node uses image demo:1"):
        image("rm", "demo:1")

    fill = "dd if=/dev/zero of=/big bs=1M count=1000; sleep 1000000"
    site.kubectl("apply", "-f", "-", input=json.dumps(pod("hog", fill)))
    until(lambda: phase("hog") == "Failed/Evicted", what="the pod that fills the disk is evicted")
    message = site.kubectl("get", "pod", "hog", "-o", "jsonpath={.status.message}")
    assert "The node was low on resource: ephemeral-storage" in message and "Container main was using" in message
    until(lambda: condition("DiskPressure") == "True", what="the condition")
    until(
        lambda: "node.kubernetes.io/disk-pressure" in json.dumps(node()["spec"].get("taints")),
        what="the taint",
    )
    until(lambda: "spare" not in image("list"), what="the image that nobody uses is removed")
    assert phase("calm") == "Running/" and "library/demo:1" in image("list")
