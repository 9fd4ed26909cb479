"""In which order the modules of the agent start."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kubeedge import edgecore
from kubeedge.api.names import KUBELET_PORT, RULES_PORT
from kubeedge.beehive.supervisor import Supervisor
from kubeedge.config.edge import (
    DevicesConfig,
    EdgeConfig,
    EdgeModules,
    MetaServerConfig,
    MetricsConfig,
    at_root,
)
from kubeedge.config.mesh import MeshConfig, NodeGatewaysConfig
from kubeedge.config.node_credentials import NodeCredentials
from kubeedge.kit.http1 import Connection
from kubeedge.store.sqlite import open_sqlite
from tests.kit import virtual_time

OWN = NodeCredentials(
    tenant="default", node="edge7", number=7, address="100.64.0.7/16", pod_cidr="10.244.7.0/24",
    hub=("cloud:1",), relays=("cloud:2",), bootstrap=("cloud:3",),
)  # fmt: skip


def shown(module_text: str) -> list[str]:
    """The names in the picture at the head of the file, without what is in parentheses."""
    lines = [line for line in module_text.splitlines() if line.startswith("    ")]
    return re.findall(r"\w+", re.sub(r"\([^)]*\)", "", "\n".join(lines)))


def test_modules_start_in_the_order_that_the_head_of_the_file_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store first, then what needs no cloud, the channel last. On a machine that was started from a card."""
    monkeypatch.setattr(edgecore, "CARD", tmp_path)
    names = [name for level in levels(tmp_path) for name in level]
    assert ["store", *names] == shown(edgecore.__doc__ or "")


def levels(root: Path) -> list[list[str]]:
    """The names of the modules of an agent in which everything is switched on."""
    config = EdgeConfig(
        paths=at_root(root),
        modules=EdgeModules(
            metaserver=MetaServerConfig(enable=True),
            mesh=MeshConfig(enable=True, gateways=NodeGatewaysConfig(enable=True)),
            devices=DevicesConfig(enable=True),
        ),
        metrics=MetricsConfig(listen="127.0.0.1:10081"),
    )

    async def made() -> list[list[str]]:
        config.paths.state.mkdir(parents=True)
        store = await open_sqlite(config.paths.state / "edge.db")
        try:
            agent = edgecore.Agent(config, OWN, store)
            found = [[module.name for module in level] for level in agent.levels]
            assert [state.name for state in agent.supervisor.states()] == [name for level in found for name in level]
            return found
        finally:
            await store.close()

    return asyncio.run(made())


class Recorded:
    """A module that notes its start and its end, and is ready when it may be."""

    def __init__(self, name: str, history: list[str], may_be_ready: asyncio.Event) -> None:
        self.name = name
        self._history = history
        self._may_be_ready = may_be_ready

    async def run(self, ready: asyncio.Event) -> None:
        self._history.append(f"{self.name} starts")
        try:
            await self._may_be_ready.wait()
            ready.set()
            await asyncio.Event().wait()
        finally:
            self._history.append(f"{self.name} ends")


def test_the_channel_starts_after_appengine_is_ready_and_ends_before_it(tmp_path: Path) -> None:
    """Pods come from the local store alone; what is reported is what runs, and the agent's own end is not reported as trouble."""
    names = levels(tmp_path)

    async def scenario() -> None:
        history: list[str] = []
        at_once, appengine = asyncio.Event(), asyncio.Event()
        at_once.set()
        supervisor = Supervisor(
            [[Recorded(n, history, appengine if n == "appengine" else at_once) for n in level] for level in names]
        )
        running = asyncio.create_task(supervisor.run())
        await asyncio.sleep(5)
        assert "appengine starts" in history and "edgehub starts" not in history
        appengine.set()
        await asyncio.sleep(1)
        assert history[-1] == "edgehub starts"
        history.clear()
        supervisor.stop()
        assert await running == ()
        assert history[0] == "edgehub ends" and "appengine ends" in history

    virtual_time.run(scenario())


@pytest.mark.parametrize("rules", [False, True])
def test_what_rules_reach_is_no_part_of_the_kubelet_api(tmp_path: Path, rules: bool) -> None:
    """Who may read metrics of a Node reaches the kubelet API, in a cluster that may be a user's own; what listens on loopback is not for them."""
    modules = EdgeModules(devices=DevicesConfig(enable=True, rules=rules))
    config = EdgeConfig(paths=at_root(tmp_path), modules=modules)

    class Cloud(asyncio.StreamWriter):
        def get_extra_info(self, name: str, default: Any = None) -> Any:
            return (0, 1) if name == "peername" else super().get_extra_info(name, default)

    async def asked(served: dict[Any, Any], port: int, target: str) -> int:
        ours, theirs = socket.socketpair()
        reader, plain = await asyncio.open_connection(sock=theirs)
        writer = Cloud(plain.transport, plain.transport.get_protocol(), reader, asyncio.get_running_loop())
        task = asyncio.create_task(served[port](reader, writer))
        connection = Connection(*await asyncio.open_connection(sock=ours))
        try:
            return (await connection.request("GET", target, [("host", "edge7")])).status
        finally:
            connection.abort()
            await task

    async def test() -> None:
        config.paths.state.mkdir(parents=True)
        store = await open_sqlite(config.paths.state / "edge.db")
        try:
            bus = edgecore.Agent(config, OWN, store).parts.network
            service = "/rules/servicebus/1/secrets"  # where nothing listens
            assert await asked(bus._listeners, KUBELET_PORT, service) == 404
            assert await asked(bus._listeners, RULES_PORT, service) == (502 if rules else 404)
            assert await asked(bus._listeners, RULES_PORT, "/healthz") == 404
        finally:
            await store.close()

    asyncio.run(test())


def test_gateways_that_are_switched_off_are_not_imported() -> None:
    """What a node has of HTTP and of Services anyway needs nothing of them."""
    code = (
        "import sys, kubeedge.edgecore, kubeedge.agent.mesh_modules, kubeedge.agent.control, kubeedge.publishing.module\n"
        "print([name for name in sys.modules if name.startswith('kubeedge.gateway')])"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert found == "[]\n"
