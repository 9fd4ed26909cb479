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
from kubeedge.errors import Invalid
from kubeedge.kit.backoff import Backoff
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
        argv = argv_of(["gpio", "can"], ("127.0.0.1", 1))
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


def test_only_the_agent_s_own_broker_takes_them(tmp_path: Path) -> None:
    one = ("127.0.0.1", 1883)
    assert not device_modules._mappers(DevicesConfig(), one)
    assert [module.name for module in device_modules._mappers(DevicesConfig(mappers=("gpio",)), one)] == ["mappers"]
    for refused in (
        DevicesConfig(mappers=("gpio",), mqtt_users=tmp_path / "users"),
        DevicesConfig(mappers=("gpio",), external_broker=ExternalBrokerConfig(url="mqtt://127.0.0.1")),
    ):
        with pytest.raises(Invalid, match="run them as services"):
            device_modules._mappers(refused, one)


def test_a_command_line_names_each_once() -> None:
    (module,) = device_modules._mappers(DevicesConfig(mappers=("gpio", "can", "gpio")), ("127.0.0.1", 1884))
    assert isinstance(module, MapperProcess)
    assert list(module._argv[-4:]) == ["--broker", "127.0.0.1:1884", "gpio", "can"]
    assert module._argv[0] == sys.executable and os.access(module._argv[0], os.X_OK)
