"""EndpointSlices: what proxies and DNS servers learn of the pods behind a Service."""

from __future__ import annotations

from typing import Any

from kubeedge.api import meta
from kubeedge.api.names import Object
from kubeedge.api.resources import ENDPOINTS, ENDPOINTSLICES, PODS, SERVICES
from kubeedge_cloud.controllers.endpoints.core import subsets
from kubeedge_cloud.controllers.endpoints.slices import SERVICE_NAME, slices
from tests.unit.controllers.world import World, in_world, template


def service(name: str = "web", **spec: Any) -> Object:
    inner = {"name": name, "namespace": "default", "uid": "s"}
    return {
        "metadata": inner,
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}], **spec},
    }


def pod(name: str, ip: str, *, ready: bool = True, ends: bool = False, **spec: Any) -> Object:
    inner: Object = {"name": name, "namespace": "default", "uid": name, "labels": {"app": "web"}}
    if ends:
        inner["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    status = {"podIP": ip, "phase": "Running", "conditions": [{"type": "Ready", "status": str(ready)}]}
    return {"metadata": inner, "spec": {"nodeName": "edge1", **spec}, "status": status}


def conditions(made: list[Object]) -> dict[str, tuple[bool, bool, bool]]:
    return {
        endpoint["targetRef"]["name"]: tuple(endpoint["conditions"][k] for k in ("ready", "serving", "terminating"))
        for one in made
        for endpoint in one["endpoints"]
    }


def test_a_pod_that_ends_serves_until_it_is_not_ready() -> None:
    made = slices(
        service(), [pod("a", "10.0.0.1"), pod("b", "10.0.0.2", ends=True), pod("c", "10.0.0.3", ready=False)], {}
    )
    assert conditions(made) == {"a": (True, True, False), "b": (False, True, True), "c": (False, False, False)}
    early = slices(service(publishNotReadyAddresses=True), [pod("c", "10.0.0.3", ready=False)], {})
    assert conditions(early) == {"c": (True, True, False)}


def test_zones_and_hints_come_from_the_node() -> None:
    (plain,) = slices(service(), [pod("a", "10.0.0.1")], {"edge1": "north"})
    assert plain["endpoints"][0]["zone"] == "north" and "hints" not in plain["endpoints"][0]
    (close,) = slices(service(trafficDistribution="PreferClose"), [pod("a", "10.0.0.1")], {"edge1": "north"})
    assert close["endpoints"][0]["hints"] == {"forZones": [{"name": "north"}]}


def test_slices_are_small_and_of_one_family() -> None:
    pods = [pod(f"p{n:03}", f"10.0.{n // 256}.{n % 256}") for n in range(250)]
    pods[0]["status"]["podIPs"] = [{"ip": "10.0.0.0"}, {"ip": "fd00::1"}]
    made = slices(service(), pods, {})
    assert [(one["addressType"], len(one["endpoints"])) for one in made] == [
        ("IPv4", 100), ("IPv4", 100), ("IPv4", 50), ("IPv6", 1)
    ]  # fmt: skip
    assert len({meta.name_of(one) for one in made}) == 4
    assert made == slices(service(), reversed(pods), {})


def test_a_service_has_slices_of_its_own_families() -> None:
    both = pod("a", "10.0.0.1")
    both["status"]["podIPs"] = [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]
    for families, address in ((["IPv4"], "10.0.0.1"), (["IPv6"], "fd00::1"), (["IPv6", "IPv4"], "fd00::1")):
        of = service(ipFamilies=families)
        made = slices(of, [both, pod("old", "10.0.0.2")], {})
        assert sorted(one["addressType"] for one in made) == sorted(families)
        listed = [a["ip"] for subset in subsets(of, [both, pod("old", "10.0.0.2")]) for a in subset["addresses"]]
        assert address in listed and len(listed) == (1 if families[0] == "IPv6" else 2)


@in_world
async def test_slices_follow_pods_services_and_the_endpoints_of_users(world: World) -> None:
    async with world.cloud():
        await world.join("edge1")
        made = {"metadata": {"name": "a", "labels": {"app": "web"}}, "spec": template("web")["spec"]}
        await world.api().create(PODS, "default", made)
        await world.api().create(SERVICES, "default", {**service(), "metadata": {"name": "web"}})

        async def of(name: str) -> list[Object]:
            items = (await world.api().list(ENDPOINTSLICES, "default")).items
            return [s for s in items if meta.labels_of(s)[SERVICE_NAME] == name]

        async def ready() -> list[Object] | None:
            found = await of("web")
            return found if found and found[0]["endpoints"][0]["conditions"]["ready"] else None

        (one,) = await world.until(ready, "a slice with a ready pod")
        assert one["endpoints"][0]["nodeName"] == "edge1" and one["ports"][0]["port"] == 8080
        await world.api().delete(ENDPOINTSLICES, "default", meta.name_of(one))
        await world.until(ready, "the slice that a user deleted is made again")

        outside = {"metadata": {"name": "db"}, "spec": {"ports": [{"port": 5432}]}}
        await world.api().create(SERVICES, "default", outside)
        subsets = [{"addresses": [{"ip": "192.168.1.7"}], "ports": [{"port": 5432}]}]
        await world.api().create(ENDPOINTS, "default", {"metadata": {"name": "db"}, "subsets": subsets})

        async def mirrored() -> bool:
            return [s["endpoints"][0]["addresses"] for s in await of("db")] == [["192.168.1.7"]]

        await world.until(mirrored, "a slice of Endpoints that a user wrote")
        for name in ("web", "db"):
            await world.api().delete(SERVICES, "default", name)

        async def gone() -> bool:
            return not await of("web") and not await of("db")

        await world.until(gone, "the slices of Services that are gone")
