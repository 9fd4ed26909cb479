"""What a node says of its links and of its container runtime, with literal times."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

from kubeedge.api import keys
from kubeedge.conditions.core import DOWN_FOR, of_bus, of_encryption, of_ipv6, of_runtime
from kubeedge.conditions.module import ConditionReporter
from kubeedge.store.memory import MemoryStore
from kubeedge.store.sealing_status import SealingStatus
from tests.kit import virtual_time


@dataclass
class Bus:
    up: bool
    since: float = 0.0
    relay: str = "203.0.113.1:10010"
    last_error: str = ""
    conflicts: tuple[str, ...] = ()
    shadowed: bool = False


def test_only_what_lasts_is_said() -> None:
    said = of_bus(Bus(True), None, 0.0)
    assert said is not None and (said["status"], said["reason"]) == ("True", "LinkUp")
    assert of_bus(Bus(True), said, 5.0) is None
    assert of_bus(Bus(False, since=6.0), said, 6.0 + DOWN_FOR - 0.1) is None, "a link is being replaced"
    down = of_bus(Bus(False, since=6.0, last_error="timed out"), said, 6.0 + DOWN_FOR)
    assert (
        down is not None and (down["status"], down["reason"]) == ("False", "NoLink") and "timed out" in down["message"]
    )
    assert of_bus(Bus(False, since=6.0, last_error="refused"), down, 99.0) is None, "a write for each attempt"
    assert of_bus(Bus(True, since=100.0), down, 100.0) == said


def test_a_node_without_kubebus_says_nothing_of_it() -> None:
    async def scenario() -> None:
        store, key = MemoryStore(), keys.reported("conditions", "", "kubebus")
        bus = Bus(True)
        task = asyncio.create_task(ConditionReporter(store, bus=lambda: bus, runtime=None).run(asyncio.Event()))
        await asyncio.sleep(60)
        kv = await store.get(key)
        assert kv is not None and kv.version == 1 and json.loads(kv.value)["status"] == "True"
        bus.up, bus.since = False, asyncio.get_running_loop().time()
        await asyncio.sleep(60)
        kv = await store.get(key)
        assert kv is not None and kv.version == 2 and json.loads(kv.value)["status"] == "False"
        task.cancel()
        task = asyncio.create_task(ConditionReporter(store, bus=None, runtime=None).run(asyncio.Event()))
        await asyncio.sleep(1)
        assert await store.get(key) is None
        task.cancel()

    virtual_time.run(scenario())


def test_a_network_with_addresses_of_the_overlay_is_said() -> None:
    well = of_bus(Bus(True), None, 0.0)
    conflict = of_bus(Bus(True, conflicts=("eth0 is in 100.64.0.0/16", "eth1 too")), well, 1.0)
    assert conflict is not None and (conflict["status"], conflict["reason"]) == ("True", "AddressConflict")
    assert conflict["message"] == "eth0 is in 100.64.0.0/16; eth1 too"
    assert of_bus(Bus(True, conflicts=("eth0 is in 100.64.0.0/16", "eth1 too")), conflict, 2.0) is None
    shadowed = of_bus(Bus(True, conflicts=("eth0 is in 100.64.0.0/16",), shadowed=True), well, 1.0)
    assert shadowed is not None and shadowed["status"] == "False", "the overlay is not reached at all"
    down = of_bus(Bus(False, conflicts=("eth0 is in 100.64.0.0/16",)), shadowed, DOWN_FOR)
    assert down is not None and down["reason"] == "NoLink"
    assert of_bus(Bus(True), conflict, 3.0) == well
    long = of_bus(Bus(True, conflicts=("x" * 300,)), well, 1.0)
    assert long is not None and len(long["message"]) == 256


def test_a_runtime_that_cannot_start_containers_is_said_and_its_return_too() -> None:
    async def scenario() -> None:
        store, key = MemoryStore(), keys.reported("conditions", "", "containerruntime")
        trouble = ""
        task = asyncio.create_task(ConditionReporter(store, bus=None, runtime=lambda: trouble).run(asyncio.Event()))
        for version, (trouble, status) in enumerate((("", "True"), ("no crun", "False"), ("", "True")), start=1):
            await asyncio.sleep(60)
            kv = await store.get(key)
            assert kv is not None and kv.version == version, "a write for each change alone"
            said = json.loads(kv.value)
            assert (said["type"], said["status"]) == ("ContainerRuntimeReady", status)
            assert of_runtime(trouble, said) is None and trouble in said["message"]
        task.cancel()
        task = asyncio.create_task(ConditionReporter(store, bus=None, runtime=None).run(asyncio.Event()))
        await asyncio.sleep(1)
        assert await store.get(key) is None
        task.cancel()

    virtual_time.run(scenario())


def test_what_becomes_of_secrets_is_said_where_they_are_to_be_encrypted() -> None:
    good = SealingStatus(enabled=True, key="abcd", lasting=True)
    said = of_encryption(good, None)
    assert said is not None and (said["status"], said["reason"]) == ("True", "Encrypted")
    assert of_encryption(good, said) is None
    for status, reason, text in (
        (
            SealingStatus(enabled=True, key="ef", unreadable=3, problem="/key: No such file"),
            "KeyMissing",
            "No such file",
        ),
        (SealingStatus(enabled=True, key="ef", lasting=True, unreadable=3), "KeyMissing", "none of the configured"),
        (SealingStatus(enabled=False, unreadable=3), "KeyMissing", "3 values"),
        (SealingStatus(enabled=True, key="ef", problem="/key: No such file"), "KeyMissing", "No such file"),
        (SealingStatus(enabled=True, problem="a full disk"), "NotEncrypted", "full disk"),
        (SealingStatus(enabled=True, key="ab", lasting=True, problem="a full disk"), "NotRewritten", "full disk"),
    ):
        said = of_encryption(status, None)
        assert said is not None and (said["status"], said["reason"]) == ("False", reason) and text in said["message"]

    async def scenario() -> None:
        store, key = MemoryStore(), keys.reported("conditions", "", "secretsencryption")
        for status, there in ((good, True), (SealingStatus(enabled=False), False), (None, False)):
            reporter = ConditionReporter(store, bus=None, runtime=None, encryption=status)
            task = asyncio.create_task(reporter.run(asyncio.Event()))
            await asyncio.sleep(1)
            assert (await store.get(key) is not None) == there
            task.cancel()

    virtual_time.run(scenario())


def test_a_node_says_whether_its_pods_have_ipv6_where_the_cloud_has_some_for_them() -> None:
    said = of_ipv6("", None)
    assert said is not None and (said["type"], said["status"]) == ("PodIPv6Ready", "True")
    assert of_ipv6("", said) is None
    no = of_ipv6("the kernel of this machine has no IPv6", said)
    assert no is not None and no["status"] == "False" and "kernel" in no["message"]
