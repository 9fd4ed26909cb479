"""Services whose annotations do not do what they say: Events, once for each change."""

from __future__ import annotations

from kubeedge.api.names import Object
from kubeedge.api.resources import EVENTS, SERVICES
from kubeedge_cloud.edgecontroller.publications import faults
from tests.unit.controllers.world import World, in_world


def service(name: str, publish: str, made: str = "", **annotations: str) -> Object:
    notes = {"kubeedge.io/publish": publish} | {f"kubeedge.io/{k.replace('_', '-')}": v for k, v in annotations.items()}
    times = {"creationTimestamp": made, "uid": name} if made else {}
    return {
        "metadata": {"name": name, "namespace": "default", "annotations": notes, **times},
        "spec": {"selector": {"app": "p"}, "ports": [{"port": 80}]},
    }


async def told(world: World) -> set[tuple[str, str, str, int]]:
    events = [e for e in await world.all(EVENTS) if e["involvedObject"]["kind"] == "Service"]
    return {(e["involvedObject"]["name"], e["type"], e["reason"], e["count"]) for e in events}


@in_world
async def test_an_access_that_nobody_knows_is_said_once_for_each_change(world: World) -> None:
    unknown = ("web", "Warning", "UnknownAccess", 1)
    async with world.cloud():
        await world.api().create(SERVICES, "default", service("web", "shop", access="tokn"))
        await world.settle(5)
        assert await told(world) == {unknown}
        await world.api().merge_patch(SERVICES, "default", "web", {"metadata": {"labels": {"a": "b"}}})
        await world.settle(5)
        assert await told(world) == {unknown}, "nothing that concerns it has changed"
        for access in ("tenant", "tokn"):
            change = {"metadata": {"annotations": {"kubeedge.io/access": access}}}
            await world.api().merge_patch(SERVICES, "default", "web", change)
            await world.settle(5)
        assert await told(world) == {("web", "Warning", "UnknownAccess", 2)}


@in_world
async def test_of_two_services_that_publish_one_name_the_younger_is_told(world: World) -> None:
    async with world.cloud():
        await world.api().create(SERVICES, "default", service("old", "shop"))
        await world.settle(5)
        assert await told(world) == set()
        await world.api().create(SERVICES, "default", service("young", "shop"))
        await world.settle(5)
        assert await told(world) == {("young", "Warning", "PublishedNameTaken", 1)}
        (event,) = await world.all(EVENTS)
        assert "default/old" in event["message"]
    async with world.cloud():  # what was there before the process is looked at too
        await world.api().delete(SERVICES, "default", "old")
        await world.api().create(SERVICES, "default", service("new", "shop"))
        await world.settle(5)
        assert ("new", "Warning", "PublishedNameTaken", 1) in await told(world)


def test_every_fault_has_its_reason() -> None:
    def reasons(*services: Object) -> dict[str, set[str]]:
        return {uid: set(wrong) for uid, (_, wrong) in faults(services).items()}

    fine = [service(kind, kind, "2026-01-01T00:00:00Z", access=kind) for kind in ("public", "tenant")]
    fine.append(service("t", "token", "2026-01-01T00:00:00Z", access="token", access_token_secret="keys"))
    assert reasons(*fine) == {}
    bare = service("bare", "bare", "2026-01-01T00:00:00Z")
    bare["spec"] = {"externalName": "example.com"}
    assert reasons(
        bare,
        service("b", "Shop/1", "2026-01-01T00:00:00Z"),
        service("c", "c", "2026-01-01T00:00:00Z", access="token"),
        service("d", "c", "2026-01-02T00:00:00Z", access="Public"),
    ) == {
        "bare": {"NotPublished"},
        "b": {"InvalidPublishedName"},
        "c": {"NoTokens"},
        "d": {"UnknownAccess", "PublishedNameTaken"},
    }
