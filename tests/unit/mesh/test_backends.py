"""The pods that a Gateway of a node uses, and what a pod waits for before it begins."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from kubeedge.mesh import enforcer as enforcer_file
from kubeedge.mesh import nft
from kubeedge.mesh.backends import ServiceBackends
from kubeedge.mesh.bridge_filter import BridgeFilter
from kubeedge.mesh.enforcer import PolicyEnforcer
from tests.kit import virtual_time
from tests.unit.mesh.test_table import POD, RUNS, WEB, far, put, table

POLICY = {"spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [], "egress": []}}


def test_a_gateway_uses_the_pods_that_the_service_proxy_would_use_in_turn() -> None:
    known, alone = table(), [False]
    backends = ServiceBackends(lambda: known, lambda: alone[0])

    def turn() -> list[tuple[str, str, int]]:
        return [(e.node, e.address, e.port) for e in backends.in_turn("d", "web", "http")]

    assert turn() == []
    put(known, "/desired/services/d/web", {"spec": WEB})
    put(known, "/desired/endpointslices/d/web-1", far("10.244.2.2"))
    put(known, "/desired/pods/d/p", POD)
    assert turn() == [("edge2", "10.244.2.2", 8080)], "the pod of this node is not ready"
    put(known, "/reported/pods/d/p", RUNS)
    one, two = ("edge1", "10.244.1.2", 8080), ("edge2", "10.244.2.2", 8080)
    assert sorted([turn()[0], turn()[0]]) == [one, two] and sorted(turn()) == [one, two]
    alone[0] = True
    assert turn() == [one], "those that can be reached come first"
    assert backends.in_turn("d", "web", "other") == []
    put(known, "/desired/services/d/web", None)
    assert turn() == []


class Kernel:
    """What nft was told, when, and how long it takes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float = 0.05) -> None:
        self.told: list[tuple[float, str]] = []
        self.seconds = seconds

        async def commit(commands: str) -> None:
            await asyncio.sleep(self.seconds)
            self.told.append((asyncio.get_running_loop().time(), commands))

        async def changes_of_rules() -> Any:
            await asyncio.Event().wait()
            yield

        monkeypatch.setattr(nft, "commit", commit)
        monkeypatch.setattr(nft, "changes_of_rules", changes_of_rules)
        monkeypatch.setattr(nft, "table_state", lambda name, version: (1, 1))


def admitted(kernel: Kernel, *, policy: bool, later: float = 0.0, addresses: Sequence[str] = ("10.244.1.2",)) -> float:
    """Seconds that a pod waits; it becomes known `later`."""
    known = table()

    async def scenario() -> float:
        loop = asyncio.get_running_loop()
        if policy:
            put(known, "/desired/networkpolicies/d/p", POLICY)
        enforcer = PolicyEnforcer(known, BridgeFilter(None))
        written = asyncio.Event()
        task = asyncio.create_task(enforcer.run(written))
        await written.wait()
        begun = loop.time()

        def comes() -> None:
            put(known, "/desired/pods/d/p", POD)
            enforcer.look()

        if later >= 0:
            loop.call_later(later, comes)
        await enforcer.admit("d", "p", "u", addresses)
        took = loop.time() - begun
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return took

    return virtual_time.run(scenario())


def test_a_pod_begins_when_the_kernel_has_its_policies(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch)
    took = admitted(kernel, policy=True, later=0.5)
    assert 0.5 < took < 1 and "10.244.1.2" in kernel.told[-1][1]
    address = json.dumps(kernel.told)
    assert "isolated-in" in address and "10.244.1.2 : goto" in kernel.told[-1][1].replace("\n", " ")


def test_a_pod_begins_with_policies_of_both_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch)
    took = admitted(kernel, policy=True, later=0.5, addresses=("10.244.1.2", "fd00:10:244:1::2"))
    assert 0.5 < took < 1
    told = json.dumps(kernel.told)
    assert "10.244.1.2 : goto" in told and "fd00:10:244:1::2 : goto" in told


def test_without_policies_no_pod_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    assert admitted(Kernel(monkeypatch), policy=False, later=-1) == 0


def test_a_pod_waits_for_a_kernel_that_does_not_answer_so_long_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    assert admitted(Kernel(monkeypatch), policy=True, later=-1) == pytest.approx(enforcer_file._ADMISSION)
    kernel = Kernel(monkeypatch)

    def slow(now: float) -> None:
        kernel.seconds = now

    slow(30.0)
    assert admitted(kernel, policy=True, later=0.1) == pytest.approx(enforcer_file._ADMISSION)


def test_an_address_that_is_expected_is_that_of_the_pod_and_of_no_other_of_its_name() -> None:
    known = table()
    assert not known.expect("d/p", "u", ["10.244.1.2"])
    put(known, "/desired/pods/d/p", POD)
    assert not known.expect("d/p", "older", ["10.244.1.2"]) and list(known.addresses()) == []
    assert known.expect("d/p", "u", ["10.244.1.2"]) and [str(a) for a in known.addresses()] == ["10.244.1.2"]
    put(known, "/reported/pods/d/p", RUNS)
    assert known.expect("d/p", "u", ["10.244.1.7"]), "its sandbox is another one"
    assert [str(a) for a in known.addresses()] == ["10.244.1.7"]
