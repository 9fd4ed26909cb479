"""The cache and the work queue: what happens when answers, watches and deletions cross."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import pytest

from kubeedge.api.client import ObjectList, WatchEvent
from kubeedge.api.names import Object, TenantId
from kubeedge.api.resources import CONFIGMAPS
from kubeedge.api.status import TooManyRequests
from kubeedge.apiserver.registry import Registry
from kubeedge.errors import Conflict, Gone, Invalid, NotFound, Refused, Unavailable
from kubeedge.store.memory import MemoryStore
from kubeedge_cloud.controllers.informer.client import CachedClient
from kubeedge_cloud.controllers.informer.driver import Informer
from kubeedge_cloud.controllers.objects import shared, without_history
from kubeedge_cloud.controllers.queue import WorkQueue
from tests.kit import virtual_time


def obj(name: str, version: int, uid: str = "", **more: Any) -> Object:
    return {"metadata": {"name": name, "namespace": "n", "uid": uid or name, "resourceVersion": str(version), **more}}


class Script:
    """A KubeClient that lists and watches what the test says."""

    def __init__(self) -> None:
        self.lists: list[ObjectList | Exception] = []
        self.answers: asyncio.Queue[Object | Exception | None] = asyncio.Queue()  # to reads and writes of one object
        self.during_list: Callable[[], Awaitable[None]] | None = None
        self.watched: list[str] = []  # from which versions
        self.events: asyncio.Queue[WatchEvent | Exception | None] = asyncio.Queue()

    async def list(self, resource: Any, namespace: str = "", **_: Any) -> ObjectList:
        found = self.lists.pop(0)
        if isinstance(found, Exception):
            raise found
        if self.during_list is not None:
            await self.during_list()
            self.during_list = None
        return found

    async def get(self, resource: Any, namespace: str, name: str) -> Object:
        found = await self.answers.get()
        if found is None:
            raise NotFound(name)
        if isinstance(found, Exception):
            raise found
        return found

    async def create(self, resource: Any, namespace: str, obj: Object) -> Object:
        return await self.get(resource, namespace, "")

    async def watch(self, resource: Any, namespace: str = "", **_: Any) -> AsyncGenerator[WatchEvent, None]:
        self.watched.append(_["resource_version"])
        while (event := await self.events.get()) is not None:
            if isinstance(event, Exception):
                raise event
            yield event


def with_informer(*first: Object, version: int = 10) -> Callable[..., Callable[[], None]]:
    def decorate(scenario: Callable[[Informer, Script, list[Any]], Coroutine[Any, Any, None]]) -> Callable[[], None]:
        def run() -> None:
            async def inside() -> None:
                script = Script()
                script.lists.append(ObjectList(first, str(version)))
                informer = CachedClient(script).informer(CONFIGMAPS)  # type: ignore[arg-type]
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


async def say(script: Script, *events: WatchEvent | Exception | None) -> None:
    for event in events:
        script.events.put_nowait(event)
    await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def writing(informer: Informer, script: Script, answer: Object) -> AsyncIterator[None]:
    """A write of ours that is on its way in the block, and answered at its end."""
    task = asyncio.create_task(informer.written("n", answer["metadata"]["name"], lambda: script.get(None, "", "")))
    await asyncio.sleep(0)
    yield
    script.answers.put_nowait(answer)
    await task


async def wrote(informer: Informer, script: Script, answer: Object) -> None:
    async with writing(informer, script, answer):
        pass


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
    await wrote(informer, script, obj("a", 11))
    assert informer.get("n", "a") is not None
    await say(script, WatchEvent("ADDED", obj("a", 11)))
    assert heard == [(None, "a11")]


@with_informer()
async def test_a_late_answer_does_not_bring_back_what_is_gone(
    informer: Informer, script: Script, heard: list[Any]
) -> None:
    async with writing(informer, script, obj("a", 11)):
        await say(script, WatchEvent("ADDED", obj("a", 11)), WatchEvent("DELETED", obj("a", 12)))
    assert informer.get("n", "a") is None


@with_informer()
async def test_an_old_deletion_does_not_take_the_next_one_of_the_name(
    informer: Informer, script: Script, heard: list[Any]
) -> None:
    await wrote(informer, script, obj("a", 13, uid="second"))
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
    script.lists += [Unavailable("not now"), ObjectList((obj("b", 20), obj("c", 21)), "30")]
    script.during_list = lambda: wrote(informer, script, obj("d", 40))  # newer than the list that follows
    await say(script, Gone("compacted"))
    await asyncio.sleep(2)
    script.answers.put_nowait(
        obj("d", 40)
    )  # it is asked for: the list cannot tell whether it was made, or is gone again
    await asyncio.sleep(0.01)
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
async def test_a_server_that_was_away_is_listed_again_and_one_that_is_busy_or_refuses_is_not(
    informer: Informer, script: Script, heard: list[Any]
) -> None:
    """It may have been restored from a backup, and have got beyond the version that was seen, in another history."""
    for busy in (TooManyRequests("later"), Refused("not you"), None):
        await say(script, busy)
        await asyncio.sleep(60)
    assert script.watched == ["10"] * 4 and script.lists == []
    script.lists.append(ObjectList((obj("b", 20),), "30"))
    await say(script, Unavailable("connection reset"))
    await asyncio.sleep(60)
    assert script.watched[-1] == "30" and [o["metadata"]["name"] for o in informer] == ["b"]


@with_informer(obj("a", 3))
async def test_a_deletion_is_expected_until_the_watch_confirms_it(
    informer: Informer, script: Script, heard: list[Any]
) -> None:
    await informer.deleted("a", asyncio.sleep(0))
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
async def test_who_says_when_to_come_again_is_believed() -> None:
    loop = asyncio.get_running_loop()
    times: list[float] = []

    async def handle(key: str) -> None:
        times.append(loop.time())
        if len(times) == 1:
            raise TooManyRequests("wait", retry_after=7.0)

    queue: WorkQueue[str] = WorkQueue("test", handle)
    queue.add("a")
    await run_for(queue, 10)
    assert times == [0.0, 7.0]


@with_queue
async def test_a_refusal_is_retried_with_back_off_and_a_bug_stops_no_other_key() -> None:
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


# What opaque versions have to be enough for


@with_informer(obj("a", 3))
async def test_versions_are_not_numbers(informer: Informer, script: Script, heard: list[Any]) -> None:
    def at(version: str) -> Object:
        found = obj("a", 0)
        found["metadata"]["resourceVersion"] = version
        return found

    await say(script, WatchEvent("MODIFIED", at("z")), WatchEvent("MODIFIED", at("b")))
    async with writing(informer, script, at("0c")):
        pass
    await say(script, WatchEvent("MODIFIED", at("y")))  # of another writer, before ours
    assert [after for _, after in heard] == ["a3", "az", "ab", "a0c"]
    await say(script, WatchEvent("MODIFIED", at("0c")), WatchEvent("MODIFIED", at("a")))
    assert [after for _, after in heard][4:] == ["aa"]


@with_informer(obj("a", 3))
async def test_a_watch_that_ends_is_resumed_and_nothing_is_listed_again(
    informer: Informer, script: Script, heard: list[Any]
) -> None:
    await say(script, WatchEvent("MODIFIED", obj("a", 11)), None)
    await say(script, WatchEvent("BOOKMARK", {"metadata": {"resourceVersion": "20"}}), None)
    await say(script, WatchEvent("DELETED", obj("a", 21)))
    assert script.watched == ["10", "11", "20"]
    assert heard == [(None, "a3"), ("a3", "a11"), ("a11", None)]


@with_informer()
async def test_a_write_whose_name_the_server_chose_and_that_was_overtaken(
    informer: Informer, script: Script, heard: list[Any]
) -> None:
    task = asyncio.create_task(informer.written("n", "", lambda: script.get(None, "", "")))
    await say(script, WatchEvent("ADDED", obj("a-x", 11)), WatchEvent("DELETED", obj("a-x", 12)))
    script.answers.put_nowait(obj("a-x", 11))
    await task
    assert informer.get("n", "a-x") is None and heard == [(None, "a-x11"), ("a-x11", None)]


@with_informer(obj("a", 3))
async def test_two_writes_of_one_object_do_not_cross(informer: Informer, script: Script, heard: list[Any]) -> None:
    sent: list[str] = []

    async def send(name: str) -> Object:
        sent.append(name)
        return await script.get(None, "", "")

    tasks = [asyncio.create_task(informer.written("n", "a", lambda name=name: send(name))) for name in ("x", "y")]  # type: ignore[misc]
    await asyncio.sleep(0.01)
    assert sent == ["x"]
    script.answers.put_nowait(obj("a", 11))
    await asyncio.sleep(0.01)
    assert sent == ["x", "y"]
    script.answers.put_nowait(obj("a", 12))
    await asyncio.gather(*tasks)
    assert heard == [(None, "a3"), ("a3", "a11"), ("a11", "a12")]


@with_informer(obj("a", 3))
async def test_a_write_during_which_everything_was_listed_is_read_again(
    informer: Informer, script: Script, heard: list[Any]
) -> None:
    """The list has what came after the write: its version never comes, and must not be waited for."""
    script.lists.append(ObjectList((obj("a", 30),), "31"))
    async with writing(informer, script, obj("a", 20)):
        await say(script, Gone("compacted"))
        assert heard[-1] == ("a3", "a30")
        loop = asyncio.get_running_loop()
        loop.call_later(
            0.01, script.answers.put_nowait, Unavailable("away for a moment: the write was made nevertheless")
        )
        loop.call_later(0.02, script.answers.put_nowait, obj("a", 30))
    await say(script, WatchEvent("MODIFIED", obj("a", 32)))
    assert heard[1:] == [("a3", "a30"), ("a30", "a32")]


@with_informer(obj("a", 3))
async def test_what_was_written_while_a_list_was_read_and_is_gone_again(
    informer: Informer, script: Script, heard: list[Any]
) -> None:
    script.lists.append(ObjectList((), "30"))
    script.during_list = lambda: wrote(informer, script, obj("a", 20))
    await say(script, Gone("compacted"))
    assert heard[-1] == ("a3", "a20")
    script.answers.put_nowait(None)  # not found
    await say(script, WatchEvent("ADDED", obj("a", 31, uid="next")))
    assert heard[2:] == [("a20", None), (None, "a31")]


@with_informer(obj("a", 3))
async def test_what_was_written_before_the_list_and_is_in_it_differently(
    informer: Informer, script: Script, heard: list[Any]
) -> None:
    await wrote(informer, script, obj("a", 20))
    script.lists.append(ObjectList((obj("a", 25),), "30"))
    await say(script, Gone("compacted"))
    await say(script, WatchEvent("MODIFIED", obj("a", 31)))
    assert heard == [(None, "a3"), ("a3", "a20"), ("a20", "a25"), ("a25", "a31")]


@with_informer()
async def test_a_deletion_that_fails_is_not_expected(informer: Informer, script: Script, heard: list[Any]) -> None:
    async def fails() -> None:
        assert informer.expected_deletions == {"a"}
        raise Conflict("another uid")

    with contextlib.suppress(Conflict):
        await informer.deleted("a", fails())
    assert informer.expected_deletions == set()


@pytest.mark.parametrize("seed", range(40))
def test_the_cache_is_what_the_api_has_whatever_crosses(seed: int) -> None:
    """Our writes, others' writes, compactions, ends of watches and lists at random, over the real registry with its answers delayed at
    random. In the end the cache has what the API has; in between, an own write is never unseen once it was answered."""
    rng = random.Random(seed)

    class Delayed:
        """Each request waits before and after it is done, so that everything overtakes everything."""

        def __init__(self, registry: Registry) -> None:
            self.registry = registry

        def __getattr__(self, name: str) -> Any:
            method = getattr(self.registry, name)

            async def call(*args: Any, **options: Any) -> Any:
                await asyncio.sleep(rng.choice((0, 0, 0.001, 0.01)))
                try:
                    return await method(*args, **options)
                finally:
                    await asyncio.sleep(rng.choice((0, 0, 0.001, 0.01)))

            return call

        async def watch(self, *args: Any, **options: Any) -> AsyncGenerator[WatchEvent, None]:
            async with contextlib.aclosing(self.registry.watch(*args, **options)) as events:
                async for event in events:
                    await asyncio.sleep(rng.choice((0, 0, 0.001, 0.02)))
                    yield event
                    if rng.random() < 0.05:
                        return
                    if rng.random() < 0.05:
                        raise Gone("compacted") if rng.random() < 0.5 else Unavailable("cut")

    async def scenario() -> None:
        registry = Registry(MemoryStore(), TenantId("t"))
        client = CachedClient(Delayed(registry))  # type: ignore[arg-type]
        informer = client.informer(CONFIGMAPS)
        running = asyncio.create_task(informer.run())
        await informer.synced.wait()

        async def work(api: Any, ours: bool) -> None:
            for number in range(30):
                name = rng.choice("abc")
                try:
                    match rng.randrange(4):
                        case 0:
                            made = await api.create(CONFIGMAPS, "default", {"metadata": {"name": name}})
                        case 1:
                            await api.delete(CONFIGMAPS, "default", name)
                            continue
                        case _:
                            patch = {"data": {"x": f"{ours}{number}"}}
                            made = await api.merge_patch(CONFIGMAPS, "default", name, patch)
                    if ours:
                        there = informer.get("default", name)
                        version = int(there["metadata"]["resourceVersion"]) if there is not None else None
                        assert version is None or version >= int(made["metadata"]["resourceVersion"])
                        if version is None:  # only what was deleted since may be missing
                            assert name not in {
                                o["metadata"]["name"]
                                for o in (await registry.list(CONFIGMAPS)).items
                                if o["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
                            }
                except (NotFound, Conflict):
                    pass
                await asyncio.sleep(rng.choice((0, 0.002, 0.02)))

        await asyncio.gather(work(client, True), work(client, True), work(registry, False))
        await asyncio.sleep(120)
        expected = {o["metadata"]["name"]: o for o in (await registry.list(CONFIGMAPS)).items}
        assert {o["metadata"]["name"]: o for o in informer} == expected
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    virtual_time.run(scenario())
