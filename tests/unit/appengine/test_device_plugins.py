"""Device plugins that answer, lie, hang and end, on real sockets. (An unmodified one: tests/netns/test_device_plugins.py.)"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from kubeedge.api.protobuf import encode
from kubeedge.appengine.deviceplugins import core
from kubeedge.appengine.deviceplugins.base import DevicesNotReady, ResourceCount
from kubeedge.appengine.deviceplugins.core import DeviceEdits
from kubeedge.appengine.deviceplugins.manager import DeviceManager
from kubeedge.appengine.deviceplugins.plugins import TYPES, decoded
from kubeedge.appengine.deviceplugins.records import AllocationRecords, DeviceAllocation
from kubeedge.appengine.node_devices import NodeDevices
from kubeedge.appengine.runtime import cdi, device_files
from kubeedge.appengine.runtime.base import DeviceNode, StartError
from kubeedge.errors import Invalid
from kubeedge.kit.grpc import GrpcChannel, GrpcError
from tests.unit.appengine.world import container, pod
from tests.unit.kit.test_grpc import Server

R = "a.b/c"
GOOD = {"version": "v1beta1", "endpoint": "a.sock", "resource_name": R}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": "v1"}, "of version v1 are not supported"),
        ({"resource_name": "cpu"}, "no name of an extended resource"),
        ({"resource_name": "kubernetes.io/x"}, "no name of an extended resource"),
        ({"resource_name": "x.kubernetes.io/x"}, "no name of an extended resource"),
        ({"resource_name": "a/b/c"}, "no name of an extended resource"),
        ({"resource_name": "a.b/" + "c" * 64}, "no name of an extended resource"),
        ({"endpoint": ""}, "no name of a socket"),
        ({"endpoint": "../x"}, "no name of a socket"),
        ({"endpoint": "kubelet.sock"}, "no name of a socket"),
    ],
)
def test_who_registers_offers_a_resource_at_a_socket_beside_ours(change: dict[str, Any], words: str) -> None:
    assert core.registration(GOOD).resource == R
    with pytest.raises(Invalid, match=words):
        core.registration({**GOOD, **change})


def test_a_list_of_devices_has_each_of_them_once() -> None:
    one = {"ID": "1", "health": "Healthy", "topology": {"nodes": [{"ID": 0}, {"ID": 1}]}}
    found = core.devices({"devices": [one, {"ID": "2", "health": "Unhealthy"}]})
    assert found["1"].numa == (0, 1) and found["1"].is_healthy and not found["2"].is_healthy
    for bad in ([one, one], [{"ID": ""}], [{"ID": "x" * 257}], [{"ID": str(n)} for n in range(core.MAX_DEVICES + 1)]):
        with pytest.raises(Invalid):
            core.devices({"devices": bad})


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"mounts": [{"container_path": "x", "host_path": "/x"}]},
        {"mounts": [{"container_path": "/x", "host_path": "/x/../y"}]},
        {"devices": [{"host_path": "/dev/null", "permissions": "x"}]},
        {"devices": [{"host_path": "/dev/null", "permissions": ""}]},
        {"devices": [{"host_path": "dev/null", "permissions": "r"}]},
        {"envs": {"a=b": "c"}},
        {"envs": {"a": "x" * 5000}},
        {"annotations": {"a": "\0"}},
        {"envs": {str(n): "" for n in range(300)}},
    ],
)
def test_what_no_container_could_have_is_refused(answer: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        core.edits({"container_responses": [answer] if answer else []})


def test_what_the_pod_says_itself_goes_before(tmp_path: Path) -> None:
    from kubeedge.appengine.runtime.base import BindMount, ContainerConfig

    made = pod().containers[0]
    config = ContainerConfig(made, 0, "i", {"A": "pod"}, [BindMount(tmp_path, "/x")], tmp_path)
    edits = DeviceEdits(
        {"A": "plugin", "B": "b"}, [("/1", "/x", False), ("/2", "/y", True)], (), {"k": "v"}, ("a/b=c",)
    )
    found = edits.applied(config)
    assert found.env == {"A": "pod", "B": "b"} and found.annotations == {"k": "v"} and found.cdi == ("a/b=c",)
    assert [(str(m.source), m.target, m.read_only) for m in found.mounts] == [
        (str(tmp_path), "/x", False),
        ("/2", "/y", True),
    ]


def test_records_survive_and_a_damaged_file_is_none(tmp_path: Path) -> None:
    path = tmp_path / "s/a.json"
    edits = DeviceEdits({"A": "1"}, [("/h", "/c", True)], [DeviceNode("/dev/x", "/dev/y", "rw")], {"k": "v"}, ["n"])
    records = AllocationRecords(path)
    records.know(R)
    records.keep(DeviceAllocation("u", "c", R, ("1", "2"), "boot", edits))
    again = AllocationRecords(path)
    assert list(again) == list(records) and again.resources == {R} and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert again.discard("u") and not again.discard("u") and list(AllocationRecords(path)) == []
    for damaged in (b"", b"[]", b'{"resources": [], "allocations": [{}]}', b"\xff"):
        path.write_bytes(damaged)
        assert list(AllocationRecords(path)) == []


class Plugin:
    """A device plugin over another implementation's HTTP/2; `answers` may change what it says to a call."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "a.sock"
        self.calls: list[tuple[str, Any]] = []
        self.answers: dict[str, Callable[[Any], Any]] = {}
        self._watch: list[tuple[Server, int]] = []
        self._listener: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            with contextlib.suppress(OSError):
                await Server(reader, writer, self._answer).run()
            writer.close()

        self.path.unlink(missing_ok=True)
        self._listener = await asyncio.start_unix_server(connected, str(self.path))

    async def stop(self) -> None:
        if self._listener is not None:
            self._listener.close()
        for server, _ in self._watch:
            server.writer.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._watch.clear()

    def tell(self, **health: str) -> None:
        for server, stream in self._watch:
            devices = [{"ID": id, "health": state} for id, state in health.items()]
            server.message(stream, encode(TYPES, "ListAndWatchResponse", {"devices": devices}))
            server.flush()

    def _answer(self, server: Server, stream: int, message: bytes) -> None:
        call = server.headers[stream][":path"].rpartition("/")[2]
        server.head(stream)
        if call == "ListAndWatch":
            self._watch.append((server, stream))
            self.calls.append((call, None))
            return
        kinds = {
            "Allocate": ("AllocateRequest", "AllocateResponse"),
            "GetPreferredAllocation": ("PreferredAllocationRequest", "PreferredAllocationResponse"),
            "PreStartContainer": ("PreStartContainerRequest", "PreStartContainerResponse"),
        }[call]
        asked = decoded(kinds[0], message)
        self.calls.append((call, asked))
        answer = self.answers.get(call, lambda _: {"container_responses": [{}]} if call != "PreStartContainer" else {})(
            asked
        )
        if isinstance(answer, bytes):
            server.message(stream, answer)
        elif isinstance(answer, str):
            server.end(stream, 2, answer)
            return
        else:
            server.message(stream, encode(TYPES, kinds[1], answer))
        server.end(stream)


def listens(path: Path) -> bool:
    """Its file is there a moment earlier."""
    rows = (row.split() for row in Path("/proc/net/unix").read_text().splitlines())
    return any(row[-1] == str(path) and row[3] == "00010000" for row in rows)  # __SO_ACCEPTCON


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(90):
        while not condition():
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def managed(
    root: Path, boot: str = "b1", **options: bool
) -> AsyncIterator[tuple[DeviceManager, Plugin, list[Any]]]:
    changes: list[Any] = []

    async def changed() -> None:
        changes.append(dict(manager.counts()))

    plugin = Plugin(root)
    await plugin.start()
    manager = DeviceManager(root, root / "records.json", boot, changed)
    try:
        await manager.plugins.register(encode(TYPES, "RegisterRequest", {**GOOD, "options": options}))
        await until(lambda: plugin._watch)
        plugin.tell(d1="Healthy", d2="Healthy", d3="Unhealthy")
        await until(lambda: changes and changes[-1][R] == ResourceCount(3, 2))
        yield manager, plugin, changes
    finally:
        await manager.close()
        await plugin.stop()


def wants(count: int, name: str = "main") -> dict[str, Any]:
    return container(name, resources={"limits": {R: str(count)}})


def ids(manager: DeviceManager, uid: str = "u1", name: str = "main") -> list[str]:
    found = manager.records.get(uid, name, R)
    return list(found.ids) if found is not None else []


def test_devices_are_given_kept_and_given_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        first, second = pod(containers=[wants(1)]), pod("b", uid="u2", containers=[wants(2)])
        async with managed(tmp_path, pre_start_required=True) as (manager, plugin, changes):
            plugin.answers["Allocate"] = lambda asked: {
                "container_responses": [{"envs": {"IDS": ",".join(asked["container_requests"][0]["devices_ids"])}}]
            }
            for _ in range(2):  # the second time as after a crash of the container
                assert (await manager.allocate(first, first.containers[0])).env == {"IDS": "d1"}
            assert [name for name, _ in plugin.calls] == [
                "ListAndWatch",
                "Allocate",
                "PreStartContainer",
                "PreStartContainer",
            ]
            with pytest.raises(DevicesNotReady, match="2 a.b/c wanted, 1 of 3 are free and healthy"):
                await manager.allocate(second, second.containers[0])
            plugin.tell(d1="Healthy", d2="Healthy", d3="Healthy")
            await until(lambda: changes[-1][R] == ResourceCount(3, 3))
            await manager.allocate(second, second.containers[0])
            assert ids(manager, "u2") == ["d2", "d3"]
            await plugin.stop()
            await until(lambda: changes[-1][R] == ResourceCount(3, 0))
        async with managed(tmp_path, boot="b2") as (manager, plugin, _):  # the machine was started again
            await manager.sweep({"u1"})
            assert ids(manager) == ["d1"] and ids(manager, "u2") == []
            plugin.answers["Allocate"] = lambda _: {"container_responses": [{"envs": {"NEW": "path"}}]}
            assert (await manager.allocate(first, first.containers[0])).env == {"NEW": "path"} and ids(manager) == [
                "d1"
            ]
            assert await manager.release("u1") and not await manager.release("u1")

    asyncio.run(scenario())


def test_a_plugin_that_is_not_there_is_waited_for_and_others_resources_are_not_ours(tmp_path: Path) -> None:
    async def scenario() -> None:
        made = pod(containers=[wants(1)])
        other = pod(containers=[container(resources={"limits": {"x.y/z": "5"}})])

        async def changed() -> None:
            pass

        records = AllocationRecords(tmp_path / "records.json")
        records.know(R)
        manager = DeviceManager(tmp_path, tmp_path / "records.json", "b1", changed)
        assert manager.counts() == {R: ResourceCount(0, 0)}
        assert await manager.allocate(other, other.containers[0]) == DeviceEdits()
        with pytest.raises(DevicesNotReady, match="is not registered on this node"):
            await manager.allocate(made, made.containers[0])
        with pytest.raises(GrpcError, match="no name of an extended resource"):
            await manager.plugins.register(encode(TYPES, "RegisterRequest", {**GOOD, "resource_name": "cpu"}))
        with pytest.raises(GrpcError):
            await manager.plugins.register(b"\xff\xff")

    asyncio.run(scenario())


def test_init_containers_hand_their_devices_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        made = pod(
            initContainers=[wants(2, "i"), {**wants(1, "s"), "restartPolicy": "Always"}],
            containers=[wants(1, "a"), wants(1, "b")],
        )
        async with managed(tmp_path) as (manager, plugin, changes):
            plugin.tell(d1="Healthy", d2="Healthy", d3="Healthy")
            await until(lambda: changes[-1][R] == ResourceCount(3, 3))
            for one in (*made.init_containers, *made.containers):
                await manager.allocate(made, one)
            found = {name: ids(manager, name=name) for name in ("i", "s", "a", "b")}
            assert found == {"i": ["d1", "d2"], "s": ["d1"], "a": ["d2"], "b": ["d3"]}

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("says", "chosen"),
    [(["d2"], ["d2"]), (["d3"], ["d1"]), (["d1", "d2"], ["d1"]), ([], ["d1"]), ("failed", ["d1"])],
)
def test_a_preference_counts_when_it_can_be(tmp_path: Path, says: Any, chosen: list[str]) -> None:
    async def scenario() -> None:
        made = pod(containers=[wants(1)])
        async with managed(tmp_path, get_preferred_allocation_available=True) as (manager, plugin, _):
            plugin.answers["GetPreferredAllocation"] = lambda _: (
                says if isinstance(says, str) else {"container_responses": [{"deviceIDs": says}]}
            )
            await manager.allocate(made, made.containers[0])
            assert ids(manager) == chosen
            (asked,) = [a for name, a in plugin.calls if name == "GetPreferredAllocation"]
            assert asked["container_requests"] == [{"available_deviceIDs": ["d1", "d2"], "allocation_size": 1}]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"\xff\xff", "an answer that is no AllocateResponse"),
        ({"container_responses": []}, "0 answers for one container"),
        (
            {"container_responses": [{"devices": [{"host_path": "/dev/x", "permissions": "all"}]}]},
            "no permissions of a device",
        ),
        ("no such device", "no such device"),
    ],
)
def test_an_answer_that_is_none_takes_no_device(tmp_path: Path, answer: Any, words: str) -> None:
    async def scenario() -> None:
        made = pod(containers=[wants(1)])
        async with managed(tmp_path) as (manager, plugin, _):
            plugin.answers["Allocate"] = lambda _: answer
            with pytest.raises(DevicesNotReady, match=words):
                await manager.allocate(made, made.containers[0])
            assert ids(manager) == []

    asyncio.run(scenario())


def test_a_list_that_is_none_ends_the_plugin_and_a_new_one_takes_over(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with managed(tmp_path) as (manager, plugin, changes):
            plugin.tell(**{"": "Healthy"})
            await until(lambda: changes[-1][R] == ResourceCount(3, 0))
            plugin._watch.clear()
            await manager.plugins.register(encode(TYPES, "RegisterRequest", GOOD))
            await until(lambda: plugin._watch)
            plugin.tell(d9="Healthy")
            await until(lambda: changes[-1][R] == ResourceCount(1, 1))

    asyncio.run(scenario())


def test_nothing_is_loaded_until_somebody_connects(tmp_path: Path) -> None:
    async def scenario() -> None:
        async def changed() -> None:
            pass

        kubelet = tmp_path / "k"
        (kubelet / "device-plugins").mkdir(parents=True)
        Path(kubelet / "device-plugins/notes").write_text("kept")
        devices = NodeDevices(kubelet, tmp_path / "state", lambda: [pod(containers=[wants(1)])], changed)
        await devices.prepare()
        running = asyncio.create_task(devices.run())
        socket = kubelet / "pod-resources/kubelet.sock"
        await until(lambda: listens(socket))
        assert devices._manager is None and devices.counts() == {}
        assert await devices.allocate(pod(containers=[wants(1)]), pod(containers=[wants(1)]).containers[0]) is None
        channel = GrpcChannel(socket)
        answer = await channel.call("/v1.PodResourcesLister/List", b"", 90)
        found = decoded("ListPodResourcesResponse", answer)
        assert found["pod_resources"] == [{"name": "web", "namespace": "default", "containers": [{"name": "main"}]}]
        with pytest.raises(GrpcError, match="pod x in namespace y not found"):
            asked = encode(TYPES, "GetPodResourcesRequest", {"pod_name": "x", "pod_namespace": "y"})
            await channel.call("/v1.PodResourcesLister/Get", asked, 90)
        await channel.close()
        assert (kubelet / "device-plugins/notes").exists()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(scenario())


def test_device_files_are_those_of_the_machine(tmp_path: Path) -> None:
    found = device_files.device_files([DeviceNode("/dev/null", "/dev/x", "r")])
    (node,) = found.nodes  # whose mode and owner are the machine's own affair
    assert {"path": "/dev/x", "type": "c", "major": 1, "minor": 3}.items() <= node.items()
    assert node.keys() == {"path", "type", "major", "minor", "fileMode", "uid", "gid"}
    assert found.allowed == [{"allow": True, "type": "c", "major": 1, "minor": 3, "access": "r"}]
    for bad in (str(tmp_path), "/dev/none"):
        with pytest.raises(StartError):
            device_files.device_files([DeviceNode(bad, "/x", "r")])


def spec() -> dict[str, Any]:
    return {"process": {"env": ["A=1"], "user": {"additionalGids": [1]}}, "mounts": [], "linux": {"resources": {}}}


def test_cdi_adds_what_the_files_of_vendors_say(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        """
kind: v.c/k
containerEdits: {env: [ALL=1]}
devices:
- name: one
  containerEdits:
    env: [A=2]
    deviceNodes: [{path: /dev/null}, {path: /dev/y, type: c, major: 9, minor: 8, permissions: r}]
    mounts: [{hostPath: /h, containerPath: /c, options: [ro]}]
    hooks: [{hookName: createContainer, path: /bin/hook, args: [hook]}]
    additionalGids: [5]
- {name: two}
"""
    )
    (tmp_path / "b.json").write_text("{")
    made = spec()
    cdi.apply(made, ["v.c/k=one", "v.c/k=two"], [tmp_path, tmp_path / "none"])
    assert made["process"] == {"env": ["ALL=1", "A=2"], "user": {"additionalGids": [1, 5]}}
    assert [d["path"] for d in made["linux"]["devices"]] == ["/dev/null", "/dev/y"]
    assert made["linux"]["devices"][0] == {"path": "/dev/null", "type": "c", "major": 1, "minor": 3}
    assert made["linux"]["resources"]["devices"][1] == {
        "allow": True,
        "type": "c",
        "major": 9,
        "minor": 8,
        "access": "r",
    }
    assert made["mounts"] == [{"destination": "/c", "source": "/h", "type": "bind", "options": ["ro"]}]
    assert made["hooks"] == {"createContainer": [{"path": "/bin/hook", "args": ["hook"]}]}
    with pytest.raises(StartError, match="unresolvable CDI device v.c/k=three"):
        cdi.apply(spec(), ["v.c/k=three"], [tmp_path])
    for bad in ({"deviceNodes": [{}]}, {"hooks": [{"hookName": "x"}]}, {"mounts": [3]}, [3]):
        file = {"kind": "b/b", "devices": [{"name": "b", "containerEdits": bad}]}
        (tmp_path / "b.json").write_text(json.dumps(file))
        with pytest.raises(StartError, match="malformed"):
            cdi.apply(spec(), ["b/b=b"], [tmp_path])


def test_a_file_of_cdi_that_is_none_costs_only_its_own_devices(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"kind": "a/a", "devices": 5}))
    (tmp_path / "b.json").write_text("[" * 200_000)
    (tmp_path / "c.yaml").write_text("[" * 5_000)
    (tmp_path / "e.json").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "d.json")
    (tmp_path / "z.json").write_text(
        json.dumps({"kind": "z/z", "devices": [{"name": "z", "containerEdits": {"env": ["Z=1"]}}]})
    )
    made = spec()
    cdi.apply(made, ["z/z=z"], [tmp_path])
    assert "Z=1" in made["process"]["env"]
