"""Helper processes: their end, their words, their timeout."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kubeedge.errors import Unavailable
from kubeedge.kit import helper_process


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path / "a_helper.py"


def test_it_gets_its_arguments_and_says_why_it_failed(helper: Path) -> None:
    helper.write_text("import sys; sys.exit(None if sys.argv[1:] == ['a', 'b'] else f'no b\\nbut {sys.argv[1:]}')")
    asyncio.run(helper_process.run("a_helper", "a", "b", purpose="that is a test"))
    with pytest.raises(Unavailable, match=r"^but \['a'\]$"):
        asyncio.run(helper_process.run("a_helper", "a", purpose="that is a test"))


def test_a_silent_failure_is_named_by_its_status(helper: Path) -> None:
    helper.write_text("import sys; sys.exit(3)")
    with pytest.raises(Unavailable, match="the helper process that is a test ended with status 3"):
        asyncio.run(helper_process.run("a_helper", purpose="that is a test"))


def test_what_it_writes_is_bounded(helper: Path) -> None:
    helper.write_text("import sys; sys.exit('x' * (1 << 20))")
    with pytest.raises(Unavailable) as caught:
        asyncio.run(helper_process.run("a_helper", purpose="that is a test"))
    assert 1000 < len(str(caught.value)) <= 4096


@pytest.mark.parametrize("cancelled", [True, False])
def test_it_ends_with_its_caller_and_at_its_timeout(
    helper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cancelled: bool
) -> None:
    """It holds a pipe open: the pipe's end says that it is dead."""
    fifo = tmp_path / "alive"
    helper.write_text(
        f"import os, time\nfd = os.open({str(fifo)!r}, os.O_WRONLY)\nos.write(fd, b'x')\ntime.sleep(3600)\n"
    )
    monkeypatch.setattr(helper_process, "_TIMEOUT", 3600.0 if cancelled else 2.0)

    async def scenario() -> None:
        task = asyncio.create_task(helper_process.run("a_helper", purpose="that is a test"))
        if cancelled:
            with await asyncio.to_thread(fifo.open, "rb") as alive:
                assert await asyncio.to_thread(alive.read, 1) == b"x"
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert await asyncio.to_thread(alive.read) == b""
        else:
            with pytest.raises(Unavailable, match="that is a test did not end within 2 s"):
                await task

    os.mkfifo(fifo)
    asyncio.run(scenario())


@pytest.mark.parametrize("flags", [[], ["-O"], ["-OO"]])
def test_a_helper_reads_the_bytecode_that_its_caller_reads(tmp_path: Path, flags: list[str]) -> None:
    """An image has one kind of it; a helper that wants another compiles all of its sources."""
    (tmp_path / "a_helper.py").write_text("import sys; sys.exit(f'optimised {sys.flags.optimize}')")
    (tmp_path / "caller.py").write_text(
        "import asyncio\nfrom kubeedge.kit import helper_process\n"
        "asyncio.run(helper_process.run('a_helper', purpose='that is a test'))\n"
    )
    done = subprocess.run(
        [sys.executable, *flags, str(tmp_path / "caller.py")], capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert f"optimised {len(flags[0]) - 1 if flags else 0}" in done.stderr


def test_what_imports_images_is_without_what_the_agent_alone_needs() -> None:
    """It lives beside the agent, in what is left of 128 MB."""
    asked = "import sys, kubeedge.appengine.images.fetch, kubeedge.appengine.images.registry; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout.split()
    assert not {"asyncio", "yaml", "kubeedge.api.pod", "kubeedge.appengine.runtime.base"} & set(loaded)
