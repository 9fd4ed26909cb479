from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import pytest

from kubeedge.beehive.supervisor import Supervisor
from kubeedge.errors import Misuse, Unavailable
from kubeedge.kit.metrics import modules
from tests.kit import virtual_time


class Good:
    """Serves until it is cancelled, and writes down what happens."""

    def __init__(self, name: str, diary: list[str], *, slow: float = 0.0) -> None:
        self.name, self._diary, self._slow = name, diary, slow

    async def run(self, ready: asyncio.Event) -> None:
        await asyncio.sleep(self._slow)
        self._diary.append(f"+{self.name}")
        ready.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._diary.append(f"-{self.name}")


class Scripted:
    """Each run is the next of the given coroutine functions; the last one repeats."""

    def __init__(self, name: str, *runs: Callable[[asyncio.Event], Any]) -> None:
        self.name, self.began = name, []
        self._runs = list(runs)

    async def run(self, ready: asyncio.Event) -> None:
        self.began.append(asyncio.get_running_loop().time())
        await (self._runs.pop(0) if len(self._runs) > 1 else self._runs[0])(ready)


async def crash(ready: asyncio.Event) -> None:
    raise OSError("the disk is gone")


async def serve(ready: asyncio.Event) -> None:
    ready.set()
    await asyncio.get_running_loop().create_future()


def state_of(supervisor: Supervisor, name: str):
    return next(s for s in supervisor.states() if s.name == name)


def run_scenario(levels, until: float, look: Callable[[Supervisor], Any] | None = None, **settings):
    async def scenario():
        supervisor = Supervisor(levels, **settings)
        running = asyncio.create_task(supervisor.run())
        await asyncio.sleep(until)
        seen = look(supervisor) if look else None
        supervisor.stop()
        stuck = await running
        return seen, stuck, asyncio.get_running_loop().time()

    return virtual_time.run(scenario())


def test_levels_start_bottom_up_and_stop_top_down():
    diary: list[str] = []
    levels = [
        [Good("store", diary, slow=2.0)],
        [Good("bus", diary), Good("hub", diary, slow=1.0)],
        [Good("app", diary)],
    ]
    run_scenario(levels, 10.0)
    assert diary[:4] == ["+store", "+bus", "+hub", "+app"]
    assert diary[4] == "-app" and set(diary[5:7]) == {"-bus", "-hub"} and diary[7] == "-store"


def test_a_module_that_crashes_starts_again_with_growing_delays_and_nobody_else_notices():
    diary: list[str] = []
    bad = Scripted("bad", crash)
    (states, _, _) = run_scenario([[bad, Good("good", diary)]], 9.9, lambda s: {x.name: x for x in s.states()})
    assert bad.began == [0.0, 0.5, 1.5, 3.5, 7.5]
    assert diary == ["+good", "-good"]
    assert (states["bad"].state, states["bad"].restarts) == ("backing off", 5)
    assert states["bad"].last_error == "the disk is gone"
    assert (states["good"].state, states["good"].restarts) == ("ready", 0)


def test_the_metrics_say_which_modules_are_up():
    async def never_ready(ready):
        await asyncio.get_running_loop().create_future()

    bad, late = Scripted("bad", crash), Scripted("late", never_ready)
    (states, _, _) = run_scenario([[bad, Good("good", [])], [late]], 9.9, Supervisor.states)
    up, restarts = modules(states)
    assert {s.labels["module"]: s.value for s in up.samples} == {"good": 1.0, "bad": 0.0, "late": 0.0}
    assert {s.labels["module"]: s.value for s in restarts.samples} == {"good": 0.0, "bad": 5.0, "late": 0.0}


def test_a_module_that_returns_has_crashed():
    async def return_at_once(ready):
        ready.set()

    flighty = Scripted("flighty", return_at_once, serve)
    (state, _, _) = run_scenario([[flighty]], 5.0, lambda s: state_of(s, "flighty"))
    assert flighty.began == [0.0, 0.5]
    assert (state.state, state.restarts, state.last_error) == ("ready", 1, "returned without being told to stop")


def test_a_restarted_module_is_starting_until_it_says_ready_again():
    async def ready_then_crash(ready):
        ready.set()
        await asyncio.sleep(1.0)
        raise OSError("late")

    async def never_ready(ready):
        await asyncio.get_running_loop().create_future()

    (state, _, _) = run_scenario([[Scripted("m", ready_then_crash, never_ready)]], 5.0, lambda s: state_of(s, "m"))
    assert state.state == "starting"


def test_a_cancellation_that_leaks_out_of_a_module_is_a_crash_not_an_end():
    async def leak(ready):
        raise asyncio.CancelledError

    m = Scripted("m", leak, serve)
    (state, _, _) = run_scenario([[m]], 5.0, lambda s: state_of(s, "m"))
    assert (state.state, m.began) == ("ready", [0.0, 0.5])


def test_a_module_that_never_gets_ready_delays_the_next_level_only_so_long(caplog):
    async def never_ready(ready):
        await asyncio.get_running_loop().create_future()

    above = Scripted("above", serve)
    run_scenario([[Scripted("late", never_ready), Scripted("fine", serve)], [above]], 20.0, ready_timeout=3.0)
    assert above.began == [3.0]
    assert "going on without: late" in caplog.text


def test_a_crash_before_ready_is_retried_within_the_timeout_of_the_level():
    above = Scripted("above", serve)
    run_scenario([[Scripted("shaky", crash, crash, serve)], [above]], 20.0)
    assert above.began == [1.5]


def test_what_does_not_stop_is_named_with_the_line_it_hangs_at(caplog):
    release = []

    async def stubborn(ready):
        ready.set()
        while not release:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass

    async def scenario():
        supervisor = Supervisor([[Scripted("stubborn", stubborn), Scripted("polite", serve)]], stop_timeout=4.0)
        running = asyncio.create_task(supervisor.run())
        await asyncio.sleep(1.0)
        supervisor.stop()
        stuck = await running
        release.append(True)
        for task in asyncio.all_tasks():
            if task.get_name() == "module stubborn":
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        return stuck, asyncio.get_running_loop().time()

    assert virtual_time.run(scenario()) == (("stubborn",), 5.0)
    assert "module stubborn does not stop; it hangs at" in caplog.text and "tasks.py" in caplog.text
    assert "polite" not in caplog.text


def test_a_module_that_fails_while_it_stops_does_not_keep_the_others_up(caplog):
    async def bad_goodbye(ready):
        ready.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            raise OSError("no goodbye")

    (_, stuck, now) = run_scenario([[Scripted("rude", bad_goodbye)]], 1.0)
    assert (stuck, now) == ((), 1.0)
    assert "module=rude failed while it stopped: no goodbye" in caplog.text


def test_stop_during_the_start_stops_what_is_up_and_starts_nothing_more():
    diary: list[str] = []
    run_scenario([[Good("a", diary)], [Good("slow", diary, slow=5.0)], [Good("c", diary)]], 1.0)
    assert diary == ["+a", "-a"]


def test_cancelling_run_stops_every_module_even_those_of_the_level_that_was_starting():
    diary: list[str] = []

    async def scenario():
        supervisor = Supervisor([[Good("a", diary)], [Good("b", diary), Good("slow", diary, slow=50.0)]])
        running = asyncio.create_task(supervisor.run())
        await asyncio.sleep(1.0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        return [t.get_name() for t in asyncio.all_tasks() if t is not asyncio.current_task()]

    assert virtual_time.run(scenario()) == []
    assert diary == ["+a", "+b", "-b", "-a"]


def test_the_same_crash_in_a_row_prints_one_traceback(caplog):
    caplog.set_level(logging.ERROR)
    run_scenario([[Scripted("bad", crash)]], 2.0)
    assert [bool(r.exc_info) for r in caplog.records if "crashed" in r.message] == [True, False, False]


async def busy_port(ready: asyncio.Event) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        await asyncio.start_server(lambda r, w: None, "127.0.0.1", other.getsockname()[1])


async def no_device(ready: asyncio.Event) -> None:
    raise ExceptionGroup("tasks", [Unavailable("no TUN kb0: another process has it")])


async def a_bug(ready: asyncio.Event) -> None:
    raise Misuse("called twice")


@pytest.mark.parametrize(
    ("fails", "words", "traceback"),
    [
        (busy_port, "already in use; is another agent", False),
        (no_device, "another process has it", False),
        (a_bug, "called twice", True),
    ],
)
def test_what_is_wrong_with_the_machine_is_one_line(caplog, fails, words, traceback):
    caplog.set_level(logging.ERROR)
    run_scenario([[Scripted("bad", fails)]], 0.5)
    first = caplog.records[0]
    assert words in first.getMessage() and "\n" not in first.getMessage() and bool(first.exc_info) == traceback


def test_two_modules_of_one_name_are_refused():
    async def scenario():
        Supervisor([[Scripted("twin", serve)], [Scripted("twin", serve)]])

    with pytest.raises(Misuse, match="twin"):
        asyncio.run(scenario())


PROGRAM = """
    import asyncio, sys
    from kubeedge.beehive.supervisor import Supervisor

    class M:
        name = "m"
        async def run(self, ready):
            ready.set()
            print("up", flush=True)
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                print("down", flush=True)
                if "stuck" in sys.argv:
                    try:
                        await asyncio.sleep(3600)
                    except asyncio.CancelledError:
                        pass

    async def main():
        print(await Supervisor([[M()]], stop_timeout=60.0).run(), flush=True)

    asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_process_in_order(number):
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "up\n"
        os.kill(process.pid, number)
        assert process.stdout.read() == "down\n()\n"
        assert process.wait(10) == 0


def test_a_second_signal_does_not_wait_for_what_is_stuck():
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), "stuck"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout.readline() == "up\n"
        os.kill(process.pid, signal.SIGTERM)
        assert process.stdout.readline() == "down\n"
        os.kill(process.pid, signal.SIGTERM)
        assert process.stdout.readline() == "('m',)\n"
        assert process.wait(10) == 0
