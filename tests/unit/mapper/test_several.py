"""Mappers of several protocols in one process, on a broker of the agent's."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from pathlib import Path

import pytest

from kubeedge.cli import main
from tests.unit.mapper.test_mapper import ADDRESS, HALL, Node, on_a_node, until

OTHER = ("default", "line")


def test_each_has_the_devices_of_its_protocol(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        await node.desire(HALL, {"x": {"type": "INT", "visitors": {"configData": {"value": 7}}}}, "virtual")
        await node.desire(OTHER, {"door": {"type": "BOOLEAN", "accessMode": "ReadOnly"}}, "gpio", chip="gpiochip999")
        argv = ("-m", "kubeedge", "mapper", "several", "--broker", f"{ADDRESS}:{node.port}", "virtual", "gpio")
        process = await asyncio.create_subprocess_exec(sys.executable, *argv)
        try:
            await until(
                lambda: node.reported() == {"x": "7"} and node.state(OTHER) == "offline",
                lambda: (node.reported(), node.state(OTHER)),
            )
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(60):
                assert await process.wait() == 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    on_a_node(tmp_path, scenario)


def test_a_protocol_that_has_no_mapper_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main.main(["mapper", "several", "gpio", "acme"])
    assert "invalid choice: 'acme'" in capsys.readouterr().err
