"""Upstream's sample device plugin, unmodified: its devices in the node's status, in containers, and in the pod resources API."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubeedge.api.names import Object
from kubeedge.api.protobuf import encode
from kubeedge.appengine.deviceplugins.plugins import TYPES, decoded
from kubeedge.kit.grpc import GrpcChannel
from tests.kit.topology import until
from tests.kit.upstream import build
from tests.netns.test_appengine import IMAGE, Engine, engine, pod, process, ready  # noqa: F401

pytestmark = pytest.mark.root
RESOURCE = "example.com/resource"
KUBELET = "/var/lib/kubelet"
SAYS = "echo $CDI_DEVICE; ls /tmp; exec sleep 1000"


class Plugin:
    """The program in the engine's host."""

    def __init__(self, engine: Engine) -> None:  # noqa: F811
        self.engine = engine
        # both have fixed paths: nothing of the machine is to be seen there
        for directory in ("/var/lib", "/run"):
            engine.host.run("mount", "-t", "tmpfs", "tmpfs", directory)
        engine.host.run("mkdir", "-p", f"{KUBELET}/device-plugins", "/run/cdi")
        self.process: subprocess.Popen[bytes] | None = None

    def path(self, name: str) -> Path:
        return Path(f"/proc/{self.engine.host.pid}/root{KUBELET}/{name}")

    def start(self) -> None:
        until(self.path("device-plugins/kubelet.sock").exists, what="the registration socket")
        self.process = self.engine.host.spawn(
            str(build.program("sample-device-plugin")), log=self.engine.root / "plugin.log", env={"CDI_ENABLED": "1"}
        )

    def stop(self) -> None:
        assert self.process is not None
        self.engine.host.signal(self.process, signal.SIGKILL)
        self.process.wait()

    def counts(self) -> tuple[str | None, str | None]:
        status = (self.engine.reported.get("/reported/nodes/_/edge1") or {}).get("status") or {}
        return tuple(status.get(kind, {}).get(RESOURCE) for kind in ("capacity", "allocatable"))  # type: ignore[return-value]

    def asks(self, method: str, response: str, request: str = "", **fields: Any) -> Object:
        """A call of the pod resources API."""

        async def call() -> bytes:
            fd = os.open(self.path("pod-resources"), os.O_PATH)  # the path of a socket must be short
            channel = GrpcChannel(Path(f"/proc/self/fd/{fd}/kubelet.sock"))
            try:
                message = encode(TYPES, request, fields) if request else b""
                return await channel.call(f"/v1.PodResourcesLister/{method}", message, 90)
            finally:
                await channel.close()
                os.close(fd)

        return decoded(response, asyncio.run(call()))


@pytest.fixture
def plugin(engine: Engine) -> Iterator[Plugin]:  # noqa: F811
    made = Plugin(engine)
    engine.kill()
    engine.more["plugins"] = KUBELET
    engine.start()
    made.start()
    try:
        yield made
    finally:
        for name in ("Dev-1", "Dev-2"):  # what the program leaves behind
            with contextlib.suppress(OSError):
                os.unlink(f"/tmp/{name}")


def wants(name: str, count: int, **more: Any) -> dict[str, Any]:
    return pod(name, SAYS, container={"resources": {"limits": {RESOURCE: str(count)}}}, **more)


def test_containers_get_devices_of_an_unmodified_plugin_and_keep_them(engine: Engine, plugin: Plugin) -> None:  # noqa: F811
    until(lambda: plugin.counts() == ("2", "2"), what="two devices in the node's status")
    engine.put("pods", "one", wants("one", 1))
    engine.until("one", ready, "a container with a device")
    engine.until_logs("one", "CDI-Dev-1\nCDI-Dev-1\nDev-1\n")
    engine.put("pods", "two", wants("two", 2))
    waits = engine.until("two", lambda s: "UnexpectedAdmissionError" in str(s), "a pod for which too few are left")
    assert f"2 {RESOURCE} wanted, 1 of 2 are free and healthy" in str(waits)
    listed = plugin.asks("List", "ListPodResourcesResponse")["pod_resources"]
    mine = {"resource_name": RESOURCE, "device_ids": ["Dev-1"]}
    assert next(p for p in listed if p["name"] == "one")["containers"] == [{"name": "main", "devices": [mine]}]
    of_one = {"request": "GetPodResourcesRequest", "pod_name": "one", "pod_namespace": "default"}
    got = plugin.asks("Get", "GetPodResourcesResponse", **of_one)["pod_resources"]
    assert got["containers"] == [{"name": "main", "devices": [mine]}]
    free = plugin.asks("GetAllocatableResources", "AllocatableResourcesResponse")["devices"]
    assert [one["device_ids"] for one in free] == [["Dev-1", "Dev-2"]]

    # the agent is killed, the plugin as well: what runs goes on, and starts again with the same device
    plugin.stop()
    until(lambda: plugin.counts() == ("2", "0"), what="a node that offers none of them")
    engine.kill()
    engine.start()
    before = engine.until("one", ready, "the pod after the restart")
    os.kill(process(engine, b"sleep\x001000"), signal.SIGKILL)
    engine.until("one", lambda s: ready(s) and s["containerStatuses"][0]["restartCount"] == 1, "its next run")
    engine.until_logs("one", "CDI-Dev-1\nCDI-Dev-1\nDev-1\n")
    assert before["podIP"] == engine.status("one")["podIP"]
    until(lambda: plugin.counts() == ("0", "0"), what="a node that has none of them")
    plugin.start()
    until(lambda: plugin.counts() == ("2", "2"), what="both devices again")
    engine.until("two", lambda s: "UnexpectedAdmissionError" in str(s), "a pod that still waits")

    # the plugin goes on while the agent is started again: it registers by itself
    engine.kill()
    engine.start()
    engine.tell(delete="/desired/pods/default/one")
    engine.until("two", ready, "the devices that were given back")
    engine.until_logs("two", "CDI-Dev-2\nCDI-Dev-1\nCDI-Dev-2\nDev-1\nDev-2\n")
