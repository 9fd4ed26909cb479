"""The cache and the work queue: what happens when answers, watches and deletions cross."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from kubeedge.api.client import ObjectList, WatchEvent
from kubeedge.api.names import Object
from kubeedge.api.resources import CONFIGMAPS
from kubeedge.errors import Conflict, Gone, Invalid, Unavailable
from kubeedge_cloud.controllers.informer import Informer
from kubeedge_cloud.controllers.objects import shared, without_history
from kubeedge_cloud.controllers.queue import WorkQueue
from tests.kit import virtual_time


def obj(name: str, version: int, uid: str = "", **more: Any) -> Object:
    return {"metadata": {"name": name, "namespace": "n", "uid": uid or name, "resourceVersion": str(version), **more}}


class Script:
    """A KubeClient that lists and watches what the test says."""

    def __init__(self) -> None:
        self.lists: list[ObjectList | Exception] = []
        self.events: asyncio.Queue[WatchEvent | Exception] = asyncio.Queue()

    async def list(self, resource: Any, namespace: str = "", **_: Any) -> ObjectList:
        found = self.lists.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    async def watch(self, resource: Any, namespace: str = "", **_: Any) -> AsyncIterator[WatchEvent]:
        while True:
            event = await self.events.get()
            if isinstance(event, Exception):
                raise event
            yield event


def with_informer(*first: Object, version: int = 10) -> Callable[..., Callable[[], None]]:
    def decorate(scenario: Callable[[Informer, Script, list[Any]], Coroutine[Any, Any, None]]) -> Callable[[], None]:
        def run() -> None:
            async def inside() -> None:
                script = Script()
                script.lists.append(ObjectList(first, str(version)))
                informer = Informer(script, CONFIGMAPS)  # type: ignore[arg-type]
                heard: list[Any] = []
                informer.on_change(lambda before, after: heard.append((_v(before), _v(after))))
                task = asyncio.create_task(informer.run())
                try:
                    await asyncio.wait_for(informer.synced.wait(), 5)
                    await scenario(informer, script, heard)
                    assert not task.done() or task.exception() is None
                finally:
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)

            virtual_time.run(inside())

        run.__name__ = scenario.__name__
        return run

    return decorate


def _v(found: Object | None) -> str | None:
    return None if found is None else found["metadata"]["name"] + found["metadata"]["resourceVersion"]


async def say(script: Script, *events: WatchEvent | Exception) -> None:
    for event in events:
        script.events.put_nowait(event)
    await asyncio.sleep(0.01)


@with_informer(obj("a", 3))
async def test_it_knows_the_list_and_follows_the_watch(informer: Informer, script: Script, heard: list[Any]) -> None:
    await say(script, WatchEvent("ADDED", obj("b", 11)), WatchEvent("MODIFIED", obj("a", 12)))
    await say(script, WatchEvent("DELETED", obj("b", 13)))
    assert heard == [(None, "a3"), (None, "b11"), ("a3", "a12"), ("b11", None)]
    assert informer.get("n", "b") is None and len(informer.in_namespace("n")) == 1  # type: ignore[arg-type]


@with_informer()
async def test_an_own_write_counts_at_once_and_is_heard_once(
    informer: Informer, script: Script, heard: list[Any]
) -> None:
    informer.note(obj("a", 11))
    assert informer.get("n", "a") is not None
    await say(script, WatchEvent("ADDED", obj("a", 11)))
    assert heard == [(None, "a11")]


@with_informer()
async def test_a_late_answer_does_not_bring_back_what_is_gone(
    informer: Informer, script: Script, heard: list[Any]
) -> None:
    await say(script, WatchEvent("ADDED", obj("a", 11)), WatchEvent("DELETED", obj("a", 12)))
    informer.note(obj("a", 11))
    assert informer.get("n", "a") is None


@with_informer()
async def test_an_old_deletion_does_not_take_the_next_one_of_the_name(
    informer: Informer, script: Script, heard: list[Any]
) -> None:
    informer.note(obj("a", 13, uid="second"))
    await say(script, WatchEvent("ADDED", obj("a", 11, uid="first")), WatchEvent("DELETED", obj("a", 12, uid="first")))
    found = informer.get("n", "a")
    assert found is not None and found["metadata"]["uid"] == "second"


@with_informer(obj("a", 3, uid="first"))
async def test_another_object_of_the_same_name_is_a_removal_and_an_addition(
    informer: Informer, script: Script, heard: list[Any]
) -> None:
    await say(script, WatchEvent("MODIFIED", obj("a", 11, uid="second")))
    assert heard == [(None, "a3"), ("a3", None), (None, "a11")]


@with_informer(obj("a", 3), obj("b", 4))
async def test_after_a_compaction_it_lists_again_and_tells_the_differences(
    informer: Informer, script: Script, heard: list[Any]
) -> None:
    informer.note(obj("d", 40))  # newer than the list that follows
    script.lists += [Unavailable("not now"), ObjectList((obj("b", 20), obj("c", 21)), "30")]
    await say(script, Gone("compacted"))
    await asyncio.sleep(2)
    assert heard[3:] == [("a3", None), ("b4", "b20"), (None, "c21")]
    assert {o["metadata"]["name"] for o in informer} == {"b", "c", "d"}


@with_informer(obj("a", 300), version=500)
async def test_after_the_store_was_rebuilt_the_old_history_does_not_count(
    informer: Informer, script: Script, heard: list[Any]
) -> None:
    script.lists.append(ObjectList((obj("a", 2, uid="new"),), "5"))
    await say(script, Gone("too large resource version"))
    await say(script, WatchEvent("ADDED", obj("b", 6)))
    assert {o["metadata"]["name"] + o["metadata"]["resourceVersion"] for o in informer} == {"a2", "b6"}


@with_informer(obj("a", 3))
async def test_a_doomed_object_is_doomed_until_the_watch_confirms(
    informer: Informer, script: Script, heard: list[Any]
) -> None:
    informer.doom("a")
    await say(script, WatchEvent("MODIFIED", obj("a", 11)))
    assert informer.expected_deletions == {"a"}
    await say(script, WatchEvent("MODIFIED", obj("a", 12, deletionTimestamp="2026-01-01T00:00:00Z")))
    assert informer.expected_deletions == set()


def test_history_is_not_kept() -> None:
    annotations = {"kubectl.kubernetes.io/last-applied-configuration": "{}", "a": "b"}
    kept = without_history(obj("a", 1, managedFields=[{}], annotations=annotations))
    assert kept["metadata"]["annotations"] == {"a": "b"} and "managedFields" not in kept["metadata"]


def with_queue(scenario: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        virtual_time.run(scenario())

    run.__name__ = scenario.__name__
    return run


async def run_for(queue: WorkQueue[str], seconds: float) -> None:
    task = asyncio.create_task(queue.run())
    await asyncio.sleep(seconds)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@with_queue
async def test_a_key_is_in_line_once_and_never_twice_at_work() -> None:
    at_work: list[str] = []
    most = handled = 0

    async def handle(key: str) -> None:
        nonlocal most, handled
        assert key not in at_work
        at_work.append(key)
        most = max(most, len(at_work))
        handled += 1
        queue.add(key) if handled < 10 else None
        await asyncio.sleep(1)
        at_work.remove(key)

    queue: WorkQueue[str] = WorkQueue("test", handle, workers=3)
    for key in "aaabbbccddee":
        queue.add(key)
    await run_for(queue, 60)
    assert most == 3 and handled == 5 + 9


@with_queue
async def test_failures_wait_longer_and_longer_and_success_forgets_them() -> None:
    loop = asyncio.get_running_loop()
    times: list[float] = []

    async def handle(key: str) -> None:
        times.append(loop.time())
        if len(times) < 9:
            raise Conflict("somebody was faster")

    queue: WorkQueue[str] = WorkQueue("test", handle)
    queue.add("a")
    await run_for(queue, 10)
    gaps = [round(b - a, 4) for a, b in zip(times, times[1:], strict=False)]
    assert gaps == [0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64]
    times.clear()
    queue.add("a")
    await run_for(queue, 0.006)
    assert len(times) == 2


@with_queue
async def test_a_refusal_is_not_repeated_in_a_hurry_and_a_bug_stops_nobody() -> None:
    handled: list[str] = []

    async def handle(key: str) -> None:
        handled.append(key)
        if key == "invalid":
            raise Invalid("no")
        if key == "bug":
            raise ZeroDivisionError

    queue: WorkQueue[str] = WorkQueue("test", handle)
    for key in ("invalid", "bug", "fine"):
        queue.add(key)
    await run_for(queue, 4)
    assert handled.count("invalid") == 1 and handled.count("fine") == 1 and handled.count("bug") > 3


@with_queue
async def test_the_earliest_wish_wins() -> None:
    loop = asyncio.get_running_loop()
    times: list[float] = []

    async def handle(key: str) -> float | None:
        times.append(loop.time())
        return 5.0 if len(times) == 1 else None

    queue: WorkQueue[str] = WorkQueue("test", handle)
    queue.add_after("a", 3.0)
    queue.add_after("a", 1.0)
    queue.add_after("a", 2.0)
    await run_for(queue, 30)
    assert times == [1.0, 6.0]


def test_what_several_caches_hold_is_there_once() -> None:
    """Equal objects alone: another history may have the same uid and version for something else."""
    text = '{"metadata": {"uid": "u", "resourceVersion": "7", "labels": {"a": "b"}}, "status": {"times": ["2026-01-01T00:00:00Z"]}}'
    first, second = json.loads(text), json.loads(text)
    kept = shared(first)
    assert kept == first and shared(second) is kept and shared(second, "other") is not kept
    other = json.loads(text.replace('"b"', '"c"'))
    assert shared(other) == other != kept and kept == first
    newer = shared(json.loads(text.replace('"7"', '"8"')))
    assert next(iter(newer["status"])) is next(iter(kept["status"])), "the strings, too"
    assert newer["status"]["times"][0] is kept["status"]["times"][0]
    assert json.dumps(kept) == json.dumps(first)
    assert shared({"metadata": {}, "data": {"long": "x" * 100}}) == {"metadata": {}, "data": {"long": "x" * 100}}
