"""`kubeedge devices` on the broker of a node, and `kubeedge mapper` as the process that it is."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from kubeedge.cli import device_scan
from kubeedge.cli.main import main
from kubeedge.cli.show import table, tree
from kubeedge.mapper.scan.core import ScanResult
from kubeedge.mqtt.client import MqttClient
from tests.unit.mapper.test_mapper import ADDRESS, HALL, Node, on_a_node, until


async def kubeedge(*arguments: str) -> tuple[int, str]:
    """Exit status and output of the program, which runs in a thread: a process of its own takes a third of a second to start."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        status = await asyncio.to_thread(main, arguments)
    return status, output.getvalue()


def test_devices_are_listed_shown_and_watched_with_a_mapper_beside_it(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        broker = f"{ADDRESS}:{node.port}"
        counter = {"collectCycle": 20, "visitors": {"configData": {"wave": "counter", "period": 0.02}}}
        properties = {"n": {"type": "INT", **counter}, "on": {"type": "BOOLEAN", "desired": "true", "unit": "x"}}
        await node.desire(HALL, properties, "virtual")
        mapper = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "kubeedge", "mapper", "virtual", "--broker", broker
        )
        try:
            await until(lambda: node.reported().get("on") == "true" and node.reported().get("n"), node.reported)
            status, text = await kubeedge("devices", "list", "--broker", broker)
            assert status == 0 and text.splitlines()[1].split()[:3] == ["default/hall", "virtual", "online"], text
            status, text = await kubeedge("devices", "get", "hall", "--broker", broker)
            assert status == 0 and text.splitlines()[-1].split()[:5] == ["on", "BOOLEAN", "true", "true", "x"], text
            status, text = await kubeedge("devices", "watch", "hall", "--count", "2", "-o", "json", "--broker", broker)
            first, second = map(json.loads, text.splitlines())
            assert first["property"] == "n" and int(second["value"]) > int(first["value"])
            status, text = await kubeedge("devices", "get", "attic", "--broker", broker)
            assert status == 1 and "this node has no device attic" in text
            status, text = await kubeedge("devices", "watch", "attic", "--broker", broker)
            assert status == 1 and "this node has no device attic" in text
            wrong = {"visitors": {"configData": {"wave": "triangle"}}}
            await node.desire(HALL, {"w": {"type": "INT", **wrong}}, "virtual")
            await until(lambda: node.twins.twins.devices[HALL].why, node.reported)
            _, text = await kubeedge("devices", "get", "hall", "--broker", broker)
            assert ": unhealthy, last report" in text and text.splitlines()[1].startswith("property w: "), text
        finally:
            mapper.send_signal(signal.SIGTERM)
            assert await mapper.wait() == 0

    on_a_node(tmp_path, scenario)


def test_nothing_that_a_device_or_a_program_says_is_obeyed_by_a_terminal(tmp_path: Path) -> None:
    evil = "\x1b]0;owned\x07\x9b31m\r\n\u202e"
    answer = {
        "id": f"default/{evil}",
        evil: evil,
        "words": [evil],
        "inner": {evil: {"value": evil}},
        "properties": [{"property": "note", "reported": evil, evil: [evil, {evil: evil}]}],
    }
    for text in (tree(answer), table((evil,), [(evil,)])):
        assert all(line.isprintable() for line in text.split("\n")) and "owned" in text
    assert len(tree({"a": evil}).split("\n")) == 1

    async def scenario(node: Node) -> None:
        broker = f"{ADDRESS}:{node.port}"
        client = await MqttClient.open(ADDRESS, node.port, "evil", lambda message: None)
        serving = asyncio.create_task(client.serve())
        watching = asyncio.create_task(kubeedge("devices", "watch", "--count", "3", "--broker", broker))
        hall = "$hw/events/device/default/hall/twin/update/document"
        other = f"$hw/events/device/default/{evil}/twin/update/document"
        good = {"current": {"actual": {"value": evil}}}
        while not watching.done():
            for twin, at in (([], 0), ({"a": 7}, "x"), ({evil: good}, 10**30)):
                for topic in (hall, other):
                    await client.publish(topic, json.dumps({"twin": twin, "timestamp": at}).encode())
            await asyncio.sleep(0.05)
        status, text = await watching
        assert status == 0 and all(line.isprintable() for line in text.rstrip("\n").split("\n")), text
        assert "owned" in text and len(text.splitlines()) >= 3
        await client.close()
        await asyncio.gather(serving, return_exceptions=True)

    on_a_node(tmp_path, scenario)


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("devices", "list", "--broker", "nowhere"), 2, "'nowhere' is no HOST:PORT"),
        (
            ("devices", "list", "--broker", f"127.79.{os.getpid() >> 8 & 255}.1:1"),
            1,
            "does the agent run (kubeedge status)? Another broker: --broker.",
        ),
        (("devices", "set", "hall", "a=1", "--socket", "/nowhere/cloud.sock"), 1, "next: on the cloud's machine: "),
        (("mapper", "virtual", "--broker", "[::1]:70000"), 2, "is no HOST:PORT"),
    ],
)
def test_what_is_wrong_is_said(arguments: tuple[str, ...], status: int, says: str) -> None:
    found, text = asyncio.run(kubeedge(*arguments))
    assert found == status and says in text, text


def test_a_scan_whose_finder_fails_ends_with_1_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scan(request: object) -> ScanResult:
        result = ScanResult()
        result.errors["ble"] = "adapter hci0 is not there"
        return result

    monkeypatch.setattr(device_scan, "scan", scan)
    status, text = asyncio.run(kubeedge("devices", "scan", "--radio", "hci0", "--dry-run", "-o", "json"))
    assert status == 1 and json.loads(text)["errors"] == {"ble": "adapter hci0 is not there"}


def test_a_mapper_whose_metrics_have_no_port_ends_and_says_so() -> None:
    with socket.create_server((ADDRESS, 0)) as taken:
        address = f"{ADDRESS}:{taken.getsockname()[1]}"
        command = [sys.executable, "-m", "kubeedge", "mapper", "virtual", "--broker", address, "--metrics", address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "kubeedge mapper: " in done.stderr and "Traceback" not in done.stderr, done.stderr
