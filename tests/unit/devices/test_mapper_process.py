"""The process of mappers that the agent runs: it is started again, and never outlives its agent."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path

import pytest

from kubeedge.agent import device_modules
from kubeedge.config.devices import DevicesConfig, ExternalBrokerConfig
from kubeedge.devices.mappers.module import MapperProcess, argv_of
from kubeedge.kit.backoff import Backoff
from kubeedge.mqtt.client import MqttClient
from tests.kit import data_servers
from tests.kit.ports import ADDRESS
from tests.unit.devices import test_mqtt_users as mqtt_users
from tests.unit.devices.modules import running, until

SOON = Backoff(0.01, 0.02)


def says(text: str, log: pytest.LogCaptureFixture) -> bool:
    return any(text in record.getMessage() for record in log.records)


def test_a_process_that_ends_is_started_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    program = f"open({str(tmp_path / 'starts')!r}, 'a').write('x'); raise SystemExit(3)"

    async def run() -> None:
        async with running(MapperProcess([sys.executable, "-c", program], again=SOON)):
            await until(lambda: (tmp_path / "starts").exists() and len((tmp_path / "starts").read_text()) >= 3)

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    assert says("ended with status 3", caplog)


def test_it_is_asked_to_end_and_made_to(tmp_path: Path) -> None:
    polite = (
        "import signal, sys, pathlib\nsignal.signal(15, lambda *a: (pathlib.Path(sys.argv[1]).touch(), sys.exit()))\n"
    )
    polite += "pathlib.Path(sys.argv[2]).touch()\nwhile True: signal.pause()"
    ended, up = tmp_path / "ended", tmp_path / "up"

    async def run() -> int:
        module = MapperProcess([sys.executable, "-c", polite, str(ended), str(up)])
        async with running(module):
            await until(up.exists)
            return module.pid

    pid = asyncio.run(run())
    assert ended.exists() and not Path(f"/proc/{pid}").exists()


def test_it_ends_when_whoever_started_it_is_gone() -> None:
    """Whose end of the pipe the kernel closes, also after SIGKILL."""

    async def run() -> None:
        argv = argv_of(["gpio", "can"], "127.0.0.1:1")
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        assert process.stdin is not None and process.stderr is not None
        async with asyncio.timeout(90):
            while b"broker 127.0.0.1:1" not in await process.stderr.readline():
                pass
            process.stdin.close()
            assert await process.wait() == 0

    asyncio.run(run())


def test_memory_is_taken_from_it_before_it_is_from_the_agent() -> None:
    async def run() -> str:
        module = MapperProcess([sys.executable, "-c", "import time; time.sleep(600)"])
        async with running(module):
            return Path(f"/proc/{module.pid}/oom_score_adj").read_text()

    assert int(asyncio.run(run())) > int(Path("/proc/self/oom_score_adj").read_text())


def one_of(config: DevicesConfig, port: int = 1883) -> MapperProcess:
    (module,) = device_modules._mappers(config, ("127.0.0.1", port))
    assert isinstance(module, MapperProcess)
    return module


def test_without_a_mapper_there_is_no_process() -> None:
    assert not device_modules._mappers(DevicesConfig(), ("127.0.0.1", 1883))


@pytest.mark.root
def test_at_the_agent_s_own_broker_they_are_root_s_program(tmp_path: Path) -> None:
    """Whatever users that has."""

    async def run() -> None:
        async with mqtt_users.node(tmp_path, mqtt_users.FILE) as (bus, _, logins):
            module = one_of(DevicesConfig(mappers=("gpio",), mqtt_users=tmp_path / "users.yaml"), bus.port)
            assert bus._server is not None
            sessions = bus._server._connections
            async with running(module):
                await until(lambda: len(sessions) == 1)
            assert not logins.refused

    asyncio.run(run())


def test_at_somebody_else_s_broker_they_log_in_as_the_agent_does(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\n")

    async def run() -> None:
        async with data_servers.mosquitto(tmp_path, login=("edge", "secret")) as peer:
            seen: list[str] = []
            client = await MqttClient.open(
                ADDRESS, peer.port, "judge", lambda message: seen.append(message.topic), login=("edge", "secret")
            )
            serving = asyncio.create_task(client.serve())
            await client.subscribe("$ke/events/#")
            external = ExternalBrokerConfig(
                url=f"mqtt://{ADDRESS}:{peer.port}", user_name="edge", password_file=tmp_path / "password"
            )
            async with running(one_of(DevicesConfig(mappers=("gpio",), external_broker=external))):
                await until(lambda: bool(seen))  # it asks for its devices
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    asyncio.run(run())


def test_a_command_line_names_each_once() -> None:
    module = one_of(DevicesConfig(mappers=("gpio", "can", "gpio")), 1884)
    assert list(module._argv[-3:]) == ["--broker=127.0.0.1:1884", "gpio", "can"]
    assert module._argv[0] == sys.executable and os.access(module._argv[0], os.X_OK)
