"""List, then watch: what comes next after everything that a server may do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from kubeedge.errors import Gone, Unavailable
from kubeedge.kit.backoff import Backoff
from kubeedge.kit.reflector.core import Reflector
from kubeedge.kit.reflector.driver import reflect
from tests.kit import virtual_time


def test_a_watch_that_ends_is_resumed_from_the_last_event() -> None:
    core = Reflector[str]()
    assert core.position is None
    core.listed("a")
    assert core.ended() == 0.0 and core.position == "a"
    core.moved("b")
    assert core.ended() == 0.0 and core.position == "b"


def test_history_that_is_gone_is_listed_again_and_repeatedly_with_back_off() -> None:
    core = Reflector[str]()
    delays = []
    for _ in range(6):
        core.listed("a")
        delays.append(core.expired())
        assert core.position is None
    assert delays == [0.0, 0.01, 0.02, 0.04, 0.08, 0.16]
    core.listed("a")
    core.moved("b")
    assert core.expired() == 0.0


def test_failures_wait_longer_and_longer_and_an_event_forgets_them() -> None:
    core = Reflector[str](Backoff(1.0, 30.0))
    core.listed("a")
    assert [core.failed() for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    assert core.position == "a", "the history may be there still"
    core.listed("a")
    assert core.failed() == 30, "who lists and cannot watch is not well"
    core.moved("b")
    assert core.failed() == 1
    assert core.failed(retry_after=120.0) == 120, "the server knows better"


class Script:
    """A source: each list and each watch does what comes next in the script."""

    def __init__(self, lists: list[str | Exception], watches: list[list[str | Exception]]) -> None:
        self.lists, self.watches = lists, watches
        self.asked: list[tuple[str, float]] = []

    def _asked(self, what: str) -> None:
        self.asked.append((what, asyncio.get_running_loop().time()))

    async def list(self) -> str:
        self._asked("list")
        found = self.lists.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    async def watch(self, position: str) -> AsyncGenerator[str, None]:
        self._asked(position)
        for event in self.watches.pop(0):
            if isinstance(event, Exception):
                raise event
            yield event


async def positions(script: Script, *, resumes: bool, transient: tuple[type[Exception], ...] = ()) -> list[str]:
    found: list[str] = []
    async with aclosing(reflect(script, resumes=resumes, transient=transient)) as steps:
        async for position in steps:
            found.append(position)
            if position == "end":
                break
    return found


def test_the_loop() -> None:
    script = Script(
        lists=[Gone("between two pages"), "10", Unavailable("away"), "20"],
        watches=[["11", "12"], [Unavailable("cut", retry_after=5.0)], ["13", Gone("compacted")], ["21", "end"]],
    )
    found = virtual_time.run(positions(script, resumes=True, transient=(Unavailable,)))
    assert found == ["10", "11", "12", "13", "20", "21", "end"]
    assert [what for what, _ in script.asked] == ["list", "list", "10", "12", "12", "list", "list", "20"]
    times = [at for _, at in script.asked]
    assert times[4] - times[3] == 5.0 and times[6] - times[5] == 1.0


def test_the_end_of_a_watch_is_the_end_where_nothing_can_follow() -> None:
    script = Script(lists=["10"], watches=[["11"]])
    assert virtual_time.run(positions(script, resumes=False)) == ["10", "11"]


def test_an_error_that_does_not_pass_is_raised() -> None:
    script = Script(lists=["10"], watches=[[Unavailable("for good")]])
    with pytest.raises(Unavailable):
        virtual_time.run(positions(script, resumes=False))
