"""What a CRI runtime is told and tells: messages in protobuf, pods and containers, ends, events."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.api.names import Object
from kubeedge.api.pod_parser import parse
from kubeedge.api.protobuf import ProtoReader, encode, parsed
from kubeedge.appengine.prepare import sandbox_config
from kubeedge.appengine.runtime.base import BindMount, ContainerConfig, ResourceUsage, StartError, User
from kubeedge.appengine.runtime.cri import configs, found, watch
from kubeedge.appengine.runtime.cri.images import CriImages, status_of
from kubeedge.appengine.runtime.cri.streams import connect, exit_code
from kubeedge.appengine.runtime.cri.table import TABLE
from kubeedge.appengine.runtime.image_service import ImageStatus
from kubeedge.errors import Invalid, PeerError
from kubeedge.kit.disk_use import DiskUse
from kubeedge.kit.grpc import UNAVAILABLE, UNIMPLEMENTED, GrpcError
from tests.kit import virtual_time

TYPES = parsed(TABLE)


def there_and_back(kind: str, message: Object) -> Object:
    return ProtoReader(TYPES).message(TYPES[kind], memoryview(encode(TYPES, kind, message)))


def pod(container: Object | None = None, **spec: Any) -> Any:
    containers = [{"name": "c", "image": "demo", "command": ["x"], **(container or {})}]
    metadata = {"name": "p", "namespace": "n", "uid": "u", "labels": {"a": "b"}}
    return parse({"metadata": metadata, "spec": {"containers": containers, **spec}})


def container(made: Any, *more: BindMount, **env: str) -> Object:
    sandbox = sandbox_config(made, Path("/logs/p"))
    mounts = [BindMount(Path("/x"), "/y", True, "HostToContainer"), *more]
    config = ContainerConfig(made.containers[0], 3, "demo", env, mounts, Path("/logs/p/c/3.log"))
    return configs.container(
        sandbox, config, node="edge1", mounts=[], message="/m", image_user={"uid": 7}, profiles=Path("/profiles"),
        oom_score_adj=500,
    )  # fmt: skip


def test_a_container_s_configuration_survives_protobuf() -> None:
    security = {"runAsUser": 0, "runAsGroup": 0, "capabilities": {"add": ["NET_ADMIN"]}}
    made = pod(
        {"args": ["$(A)"], "securityContext": security, "resources": {"limits": {"cpu": "500m", "memory": "1Mi"}}}
    )
    back = there_and_back("ContainerConfig", container(made, A="1"))
    assert back["metadata"] == {"name": "c", "attempt": 3} and back["log_path"] == "c/3.log" and back["args"] == ["1"]
    assert back["mounts"] == [{"container_path": "/y", "host_path": "/x", "readonly": True, "propagation": 1}]
    assert back["labels"]["io.kubernetes.pod.uid"] == "u" and back["labels"]["a"] == "b"
    linux = back["linux"]
    assert linux["resources"]["cpu_quota"] == 50_000 and linux["resources"]["memory_limit_in_bytes"] == 1 << 20
    context = linux["security_context"]
    assert context["run_as_user"] == {} and context["run_as_group"] == {}, "root, and not nobody in particular"
    assert context["namespace_options"] == {"pid": 1} and context["seccomp"]["profile_type"] == 1
    assert context["capabilities"] == {"add_capabilities": ["NET_ADMIN"]} and "/proc/kcore" in context["masked_paths"]


def test_capabilities_and_mounts_that_there_are_not_are_refused_as_without_a_cri_runtime() -> None:
    with pytest.raises(StartError, match="unknown capability 'NET-RAW' to drop"):
        container(pod({"securityContext": {"capabilities": {"drop": ["NET-RAW"]}}}))
    with pytest.raises(StartError, match="cannot mount at '/proc'"):
        container(pod(), BindMount(Path("/x"), "/proc"))


def test_the_user_is_the_image_s_where_the_pod_names_none() -> None:
    assert container(pod())["linux"]["security_context"]["run_as_user"] == {"value": 7}


@pytest.mark.parametrize(
    ("security", "image_user", "refused"),
    [
        ({"runAsNonRoot": True}, {"uid": 0}, "image will run as root"),
        ({"runAsNonRoot": True}, {"username": "root"}, "non-numeric user"),
        ({"runAsNonRoot": True}, {"username": "nobody"}, "non-numeric user"),
        ({"runAsNonRoot": True, "runAsUser": 0}, {"uid": 1000}, "breaks non-root policy"),
        ({"runAsNonRoot": True, "runAsUser": 7}, {"uid": 0}, ""),
        ({"runAsNonRoot": True}, {"uid": 1000}, ""),
        ({"runAsNonRoot": False, "runAsUser": 0}, {"username": "root"}, ""),
    ],
)
def test_who_is_not_to_be_root_is_not(security: dict[str, Any], image_user: dict[str, Any], refused: str) -> None:
    """The runtime does not look: in CRI there is no field for it."""
    (made,) = pod({"securityContext": security}).containers
    if refused:
        with pytest.raises(StartError, match=refused):
            configs.check_user(made.security, image_user)
    else:
        configs.check_user(made.security, image_user)


def test_a_localhost_profile_is_named_with_its_path() -> None:
    profile = {"seccompProfile": {"type": "Localhost", "localhostProfile": "a/b.json"}}
    seccomp = container(pod({"securityContext": profile}))["linux"]["security_context"]["seccomp"]
    assert seccomp == {"profile_type": 2, "localhost_ref": "/profiles/a/b.json"}


@pytest.mark.parametrize(
    ("name", "number"),
    [("SIGUSR1", 29), ("SIGTERM", 23), ("SIGRTMIN", 35), ("SIGRTMIN+15", 50), ("SIGRTMAX-14", 51), ("SIGRTMAX", 65)],
)
def test_stop_signals_have_the_numbers_of_the_api(name: str, number: int) -> None:
    assert configs._SIGNALS.index(name) == number


def test_a_sandbox_says_which_namespaces_are_the_machine_s() -> None:
    made = sandbox_config(pod(hostNetwork=True, hostPID=True), Path("/logs/p"))
    back = there_and_back("PodSandboxConfig", configs.sandbox(made, node="edge1", attempt=1, cgroup_parent="/k/podu"))
    assert back["linux"]["security_context"]["namespace_options"] == {"network": 2, "pid": 2}
    assert "hostname" not in back and back["annotations"] == {
        configs.HOST_NETWORK: "1", configs.GROUP: "/k/podu",
    }  # fmt: skip
    assert configs.is_ours(back["labels"], "edge1") and not configs.is_ours(back["labels"], "edge2")
    assert not configs.is_ours(None, "edge1")


def test_limits_can_be_lifted() -> None:
    resources = pod().containers[0].resources
    assert configs.resources(resources, no_limit=-1)["memory_limit_in_bytes"] == -1
    assert configs.resources(resources)["cpu_quota"] == 0
    back = there_and_back("LinuxContainerResources", configs.resources(resources, no_limit=-1))
    assert back["cpu_quota"] == -1


STATUS: Object = {
    "id": "1", "metadata": {"name": "c", "attempt": 2}, "state": found.EXITED, "started_at": 2_000_000_000, "exit_code": 137,
    "finished_at": 3_500_000_000, "reason": "OOMKilled", "image_id": "sha256:1", "user": {"linux": {"supplemental_groups": [3, 2]}},
    "labels": {"io.kubernetes.pod.uid": "u", "io.kubernetes.container.name": "c"}, "annotations": {configs.IMAGE: "demo"},
}  # fmt: skip


def test_a_status_is_a_run_that_was_found() -> None:
    run = found.container(STATUS, "why")
    assert (run.name, run.attempt, run.image, run.image_id, run.started_at, run.finished_at) == (
        "c",
        2,
        "demo",
        "sha256:1",
        2.0,
        3.5,
    )
    assert run.exit is not None and (run.exit.exit_code, run.exit.reason, run.exit.message) == (137, "OOMKilled", "why")
    assert run.user == User(0, 0, (2, 3))
    assert found.container({**STATUS, "state": found.RUNNING}, "").exit is None
    assert found.exit_of({**STATUS, "state": found.UNKNOWN}, "").reason == "ContainerStatusUnknown"
    assert found.exit_of({**STATUS, "reason": "Error", "exit_code": 1}, "").reason == ""


@given(st.binary(max_size=200), st.sampled_from(sorted(TYPES)))
def test_noise_is_refused_or_read(data: bytes, kind: str) -> None:
    try:
        ProtoReader(TYPES, values=1000).message(TYPES[kind], memoryview(data))
    except Invalid:
        pass


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (b'{"status":"Success"}', 0),
        (b"", 0),
        (b'{"status":"Failure","details":{"causes":[{"reason":"ExitCode","message":"3"}]}}', 3),
        (b'{"status":"Failure","message":"no such program"}', 126),
        (b'{"status":"Failure","details":{"causes":[{"reason":"ExitCode","message":"x"}]}}', 126),
        (b"[1]", 126),
        (b"{", 126),
    ],
)
def test_how_a_command_ended(said: bytes, code: int) -> None:
    assert exit_code(said) == code and exit_code(b"", was_cut=True) == 137


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1:80/x",
        "http://example.org:80/x",
        "https://127.0.0.1:80/x",
        "http://127.0.0.1/x",
        "",
        "file:///etc/passwd",
    ],
)
def test_streams_are_fetched_from_this_machine_alone(url: str) -> None:
    with pytest.raises(PeerError, match="loopback"):
        asyncio.run(connect(url, "v4.channel.k8s.io"))


def test_what_a_runtime_says_of_its_health() -> None:
    ready: list[Object] = [{"type": "RuntimeReady", "status": True}, {"type": "NetworkReady", "reason": "NoCNI"}]
    assert watch.unhealthy({"status": {"conditions": ready}}) == "container runtime: NetworkReady is false: NoCNI"
    assert "RuntimeReady" in watch.unhealthy({})
    ready[1] = {"type": "NetworkReady", "status": True}
    assert watch.unhealthy({"status": {"conditions": ready}}) == ""


class Runtime:
    """Plays a script: events to give, then an error to end with."""

    def __init__(self, *streams: tuple[list[Object], GrpcError]) -> None:
        self._streams = list(streams)
        self.asked = 0

    async def call(self, name: str, *, within: float = 0.0, **fields: Any) -> Object:
        return {"status": {"conditions": [{"type": t, "status": True} for t in ("RuntimeReady", "NetworkReady")]}}

    async def events(self) -> AsyncGenerator[Object, None]:
        self.asked += 1
        if not self._streams:
            await asyncio.Event().wait()
        events, error = self._streams.pop(0)
        for event in events:
            yield event
        raise error


async def _watched(runtime: Runtime, lists: int) -> tuple[list[str], int]:
    ended: list[str] = []
    listed, enough = 0, asyncio.Event()

    async def end(id: str) -> None:
        ended.append(id)

    async def relist() -> None:
        nonlocal listed
        listed += 1
        if listed >= lists:
            enough.set()

    watching = watch.CriWatch(runtime, end, relist)  # type: ignore[arg-type]
    watching.start()
    async with asyncio.timeout(20):
        await enough.wait()
    await watching.close()
    return ended, listed


def test_events_tell_of_ends_and_a_lost_stream_is_repaired_by_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_PAUSE", 0.001)
    stopped = {"container_id": "1", "container_event_type": found.STOPPED_EVENT}
    started = {"container_id": "2", "container_event_type": found.STARTED_EVENT}
    runtime = Runtime(([started, stopped], GrpcError(UNAVAILABLE, "gone")))
    ended, _ = asyncio.run(_watched(runtime, 1))
    assert ended == ["1"] and runtime.asked == 2, "a new stream, and then the list"


def test_a_runtime_without_events_is_asked_for_its_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_POLL", 0.001)
    runtime = Runtime(([], GrpcError(UNIMPLEMENTED, "unknown method")))
    assert asyncio.run(_watched(runtime, 3)) == ([], 3) and runtime.asked == 1


def counted(id: str, name: str, cpu: int, memory: int) -> Object:
    """ContainerStats, as it comes over the socket."""
    return there_and_back(
        "ContainerStats",
        {
            "attributes": {"id": id, "labels": {configs.CONTAINER: name}},
            "cpu": {"usage_core_nano_seconds": {"value": cpu}},
            "memory": {"working_set_bytes": {"value": memory}, "rss_bytes": {"value": 5}},
            "writable_layer": {"used_bytes": {"value": memory * 2}, "inodes_used": {"value": 3}},
        },
    )


def test_usage_is_of_containers_that_run_and_of_their_pod() -> None:
    labels = {configs.POD_UID: "u", configs.POD_NAMESPACE: "n", configs.POD_NAME: "p"}
    running = {
        id: {
            "id": id,
            "labels": {**labels, configs.CONTAINER: name},
            "created_at": 2_000_000_000,
            "annotations": {configs.IMAGE: "demo"},
        }
        for id, name in (("1", "a"), ("2", "b"), ("4", "uncounted"))
    }
    entries = [counted("1", "a", 10, 100), counted("2", "b", 20, 200), counted("3", "ended", 1, 1)]
    entries.append({"attributes": {"id": "4"}})
    (pod_,) = found.pod_stats(entries, [], running)
    assert (pod_.uid, pod_.namespace, pod_.name) == ("u", "n", "p")
    assert [(c.name, c.id, c.image, c.started_at) for c in pod_.containers] == [
        ("a", "1", "demo", 2.0),
        ("b", "2", "demo", 2.0),
    ]
    assert pod_.usage == ResourceUsage(30, 300, 300, 10, 0, 0, 0), "a runtime that does not count sandboxes: the sum"
    whole = {
        "cpu": {"usage_core_nano_seconds": {"value": 99}},
        "memory": {"working_set_bytes": {"value": 999}, "usage_bytes": {"value": 1000}},
        "process": {"process_count": {"value": 7}},
    }
    sandbox = there_and_back("PodSandboxStats", {"attributes": {"labels": labels}, "linux": whole})
    (pod_,) = found.pod_stats(entries, [sandbox], running)
    assert pod_.usage == ResourceUsage(99, 1000, 999, 0, 0, 0, 7)


def test_the_larger_of_two_writable_layers_counts() -> None:
    entries = [
        counted("1", "a", 1, 10),
        counted("2", "a", 1, 30),
        counted("3", "a", 1, 20),
        {"attributes": {"id": "4"}},
    ]
    assert found.disk_use(entries) == {"a": DiskUse(60, 3)}


def test_an_image_has_its_digests_its_size_and_may_be_pinned() -> None:
    digest = "demo.test/a@sha256:" + "0" * 64
    image = {"id": "sha256:1", "repo_tags": ["demo.test/a:1"], "repo_digests": [digest], "size": 9}
    there = there_and_back("Image", image)
    assert status_of(there, ()) == ImageStatus("sha256:1", ("demo.test/a:1",), (digest,), 9, False)
    assert status_of(there, {"demo.test/a:1"}).pinned and status_of({**there, "pinned": True}, ()).pinned
    assert status_of(there_and_back("Image", {**image, "repo_tags": []}), ()).names == (digest,), "it can be removed"


def test_a_pull_that_fails_after_its_pod_was_deleted_is_no_error_of_the_agent(caplog: pytest.LogCaptureFixture) -> None:
    class Slow:
        async def call(self, name: str, **_: Any) -> Any:
            await asyncio.sleep(10)
            raise GrpcError(13, "no such registry")

    async def scenario() -> None:
        client: Any = Slow()
        images = CriImages(client, Path("/none"), Path("/none"), lambda: "containerd")
        waiting = asyncio.create_task(images.pull("a.example/b:1", {}))
        await asyncio.sleep(1)
        waiting.cancel()
        await asyncio.sleep(20)
        gc.collect()
        with pytest.raises(Invalid, match="no such registry"):  # who is there is told
            await images.pull("a.example/b:1", {})

    virtual_time.run(scenario())
    assert "never retrieved" not in caplog.text
