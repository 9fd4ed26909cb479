"""Few objects, and much work for each node that serves them: where that is done, and who else has a turn meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from kubeedge.api import gateway as kinds
from kubeedge.api import keys
from kubeedge.api.names import NodeName, TenantId
from kubeedge.api.resources import EVENTS, NODES
from kubeedge.apiserver.offload import SMALL, Inline
from kubeedge.gateway import codec, reports
from tests.unit.controllers.world import TENANT, World, in_world
from tests.unit.gateway.objects import gateway, named, path, route, rule
from tests.unit.gateway.test_driver import apply, cloud, service

T = TypeVar("T")


class Turns(Inline):
    """Where everything is done at once, and how large each turn said that it was."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    async def run(self, tenant: TenantId, size: int, work: Callable[[], T]) -> T:
        self.sizes.append(size)
        return work()


@in_world
async def test_an_ingress_of_many_paths_has_a_turn_for_each_node_and_none_on_the_loop(world: World) -> None:
    turns, nodes = Turns(), 5
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    paths = [{"path": f"/{n}", "pathType": "Prefix", "backend": backend} for n in range(2000)]
    many = named("many", {"ingressClassName": "lan", "rules": [{"host": "i.example", "http": {"paths": paths}}]})
    of_nodes = {"metadata": {"name": "lan"}, "spec": {"controller": "kubeedge.io/node-ingress"}}
    async with cloud(world, offload=turns):
        for n in range(nodes):
            await world.tenants.register(TENANT, NodeName(f"edge{n}"), "j")
            await world.api().create(NODES, "", {"metadata": {"name": f"edge{n}"}})
            row = reports.encoded(reports.ListenReport(f"192.168.1.{n + 1}"))
            await world.store.put(f"{keys.edge(TENANT, NodeName(f'edge{n}'))}reported/{codec.ROW}", row)
        await service(world)
        await world.api().create(kinds.INGRESSCLASSES, "", of_nodes)
        await world.settle()
        turns.sizes.clear()
        await apply(world, many)
        await world.settle()
        assert len(turns.sizes) >= 1 + nodes, "one turn for all nodes would keep all tenants waiting"
        assert min(turns.sizes) > SMALL, "what is small is done on the loop"


@in_world
async def test_a_table_that_a_node_would_refuse_stays_in_the_cloud_and_its_node_says_so(world: World) -> None:
    async with cloud(world, offload=Inline()):
        await world.tenants.register(TENANT, NodeName("edge1"), "j")
        await world.api().create(NODES, "", {"metadata": {"name": "edge1"}})
        here, prefix = gateway(), keys.edge(TENANT, NodeName("edge1"))
        here["spec"]["gatewayClassName"] = "site"
        of_nodes = {"metadata": {"name": "site"}, "spec": {"controllerName": "kubeedge.io/node-gateway"}}
        await world.store.put(f"{prefix}reported/{codec.ROW}", reports.encoded(reports.ListenReport("192.168.1.2")))
        await service(world)
        await apply(world, of_nodes, here, route(name="first"))
        await world.settle()
        before = await world.store.get(f"{prefix}desired/{codec.ROW}")
        assert before is not None
        for n in range(56):  # whoever may make HTTPRoutes in one namespace makes these
            rules = [rule(*["web"] * 16, matches=[path(f"/{n}/{m}")]) for m in range(16)]
            await apply(world, route(*rules, name=f"many{n}"))
        await world.settle()
        now = await world.store.get(f"{prefix}desired/{codec.ROW}")
        assert now is not None and codec.needs(now.value)[1] == {"default"}, "or it would lose its certificates, too"
        codec.decoded(TENANT, now.value)
        [event] = [e for e in await world.all(EVENTS) if e["reason"] == "GatewaysTooLarge"]
        assert event["involvedObject"]["name"] == "edge1" and "stay as they are" in event["message"]
