"""Whose turn it is, and when a client has been silent for too long: in virtual time."""

from __future__ import annotations

import asyncio

from kubeedge.mqtt.keepalive import KeepAlive
from kubeedge.mqtt.turns import LoopTurns
from tests.kit import virtual_time


def test_who_comes_when_the_turn_is_over_waits_and_nobody_is_passed_over() -> None:
    async def scenario() -> None:
        turns, order = LoopTurns(), list[str]()

        def work(name: str, seconds: float) -> None:
            turns.end(turns.begin(asyncio.get_running_loop().time() - seconds))
            order.append(name)

        work("a", 0.0001)
        assert not turns.is_taken, "several clients share a turn"
        work("b", 0.003)
        assert turns.is_taken
        turns.wait(lambda: (work("c", 0.0001), turns.wait(lambda: work("c again", 0.003)))[0])
        turns.wait(lambda: work("d", 0.003))
        turns.wait(lambda: work("e", 0.0001))
        await asyncio.sleep(0)
        assert order == ["a", "b", "c", "d"] and turns.is_taken
        await asyncio.sleep(0)
        assert order[4:] == ["e", "c again"]
        await asyncio.sleep(0)
        assert not turns.is_taken

    virtual_time.run(scenario())


def test_what_is_to_be_sent_goes_out_at_the_end_of_a_turn() -> None:
    async def scenario() -> None:
        turns, sent = LoopTurns(), list[str]()
        until = turns.begin(asyncio.get_running_loop().time())
        turns.at_end.append(lambda: sent.append("a"))
        assert turns.is_running and not sent
        turns.end(until)
        assert not turns.is_running and sent == ["a"] and not turns.at_end

    virtual_time.run(scenario())


def test_a_client_is_silent_from_the_last_thing_it_said_on() -> None:
    async def scenario() -> None:
        loop, busy, silent = asyncio.get_running_loop(), [False], list[float]()
        began = loop.time()
        alive = KeepAlive(lambda: busy[0], lambda: silent.append(loop.time() - began))
        alive.begin(90.0)
        await asyncio.sleep(60)
        alive.heard_at = loop.time()
        await asyncio.sleep(80)
        busy[0] = True  # at 150 s we have not looked at what it has said
        await asyncio.sleep(60)
        busy[0] = False
        await asyncio.sleep(600)
        assert silent == [240.0]
        alive.begin(90.0)
        alive.stop()
        await asyncio.sleep(600)
        other = KeepAlive(lambda: False, lambda: silent.append(0.0))
        other.begin(0.0)
        await asyncio.sleep(86400)
        assert silent == [240.0]

    virtual_time.run(scenario())
