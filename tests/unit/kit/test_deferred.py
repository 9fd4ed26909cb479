"""Deferred modules: nothing is loaded before it is used, and then it is the module itself. Each test has a Python of its own, in which nothing is loaded yet."""

from __future__ import annotations

import functools
import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kubeedge.kit import deferred

_ROOT = str(Path(deferred.__file__).parents[2])
_BEGIN = "import sys\nfrom kubeedge.kit import deferred\nbefore = {*sys.modules}\ndeferred.standard_library()\n"


def run(program: str, *flags: str) -> str:
    """What the program prints. In it, `loaded(name)` says whether the module itself is there, and not only what stands in for it."""
    loaded = "def loaded(name): return not isinstance(sys.modules.get(name, sys), deferred.DeferredModule) and name in sys.modules\n"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([_ROOT, *sys.path]),
    }  # no `site`, which loads much by itself
    command = [sys.executable, "-S", *flags, "-c", _BEGIN + loaded + program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment)
    assert not done.returncode, done.stderr
    return done.stdout


@pytest.mark.parametrize("flags", [[], ["-OO"]])
def test_what_the_agent_does_at_a_start_loads_none_of_them(flags: list[str]) -> None:
    """Signal handlers (asyncio asks what is a coroutine function, and describes its main task), processes, paths, dataclasses of others."""
    program = """
import asyncio, dataclasses, logging, pathlib, shutil, signal, sqlite3, subprocess, uuid

async def main():
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, lambda: None)
    repr(asyncio.current_task())
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()
    assert subprocess.run(["echo", "x"], capture_output=True, text=True).stdout == "x\\n"

asyncio.run(main())

@dataclasses.dataclass
class Frame:
    "As those of websockets are."
    opcode: int

assert Frame(1) == Frame(1) and pathlib.Path("a").name == "a" and shutil.which("true") and uuid.uuid4()
names = ("inspect", "ast", "dis", "locale", "platform", "textwrap", "tokenize", "bz2", "lzma", "urllib.parse", "h11")
assert not before & {*names}
print([name for name in names if loaded(name)])
"""
    assert run(program, *flags) == "[]\n"


def test_what_is_used_is_the_module_itself() -> None:
    program = """
import inspect, pathlib, urllib.parse
from inspect import signature as before_it_is_there
held = inspect
assert loaded("inspect") and held.signature is sys.modules["inspect"].signature is before_it_is_there
assert str(inspect.signature(lambda a, *, b=1: 0)) == "(a, *, b=1)" and inspect.CO_COROUTINE == 0x80
assert not loaded("urllib.parse")
assert pathlib.Path("/a b").as_uri() == "file:///a%20b" and loaded("urllib.parse")
import h11
assert issubclass(h11.RemoteProtocolError, h11.ProtocolError)
try:
    inspect.no_such_name
except AttributeError as exc:
    print(exc)
"""
    assert run(program) == "module 'inspect' has no attribute 'no_such_name'\n"


def test_without_docstrings_those_of_dataclasses_are_not_made_up() -> None:
    program = """
import dataclasses, inspect

@dataclasses.dataclass
class Frame:
    opcode: int

assert not loaded("inspect") and Frame.__doc__ == "Frame", Frame.__doc__
print(inspect.signature(lambda a: 0))
"""
    assert run(program, "-OO") == "(a)\n"


def test_dates_are_those_of_the_standard_library() -> None:
    program = """
import datetime, pickle
at = datetime.datetime(2026, 11, 29, tzinfo=datetime.UTC)
assert pickle.loads(pickle.dumps(at)) == at == datetime.datetime.fromisoformat("2026-11-29T00:00:00Z")
print(at.strftime("%d %b"), datetime.datetime.strptime("29 11", "%d %m").day)
"""
    assert run(program) == "29 Nov 29\n"


def test_a_module_that_is_loaded_stays() -> None:
    import json

    deferred.defer("json", loads=None)
    assert sys.modules["json"] is json and json.loads("1") == 1


async def _coroutine() -> None: ...


@functools.wraps(_coroutine)
def _wrapping() -> None: ...


class _Object:
    async def method(self) -> None: ...

    async def __call__(self) -> None: ...


@pytest.mark.parametrize(
    "function",
    [
        _coroutine, _wrapping, _Object().method, _Object(), _Object, len, 1, lambda: None,
        functools.partial(_coroutine), functools.partial(functools.partial(_Object().method)), functools.partial(len),
    ],
)  # fmt: skip
def test_the_answers_are_those_of_inspect(function: Any) -> None:
    answers: dict[str, Callable[[Any], Any]] = deferred._inspect()  # type: ignore[assignment]
    for name in ("iscoroutinefunction", "isfunction", "unwrap"):
        assert answers[name](function) == getattr(inspect, name)(function), name
