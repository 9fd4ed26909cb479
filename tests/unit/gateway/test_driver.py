"""Gateways of tenants beside the controllers, in a cloud in memory on virtual time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from kubeedge.api import gateway as kinds
from kubeedge.api import keys
from kubeedge.api.names import NodeName, Object, TenantId
from kubeedge.api.resources import ENDPOINTSLICES, EVENTS, NAMESPACES, NODES, SECRETS, SERVICES
from kubeedge.apiserver.gateways import ROWS
from kubeedge.gateway import codec, reports
from kubeedge.gateway.model import ListenPoint, RouteRequest
from kubeedge_cloud.gateway.module import Gateways
from kubeedge_cloud.gateway.ports import GatewayPorts
from tests.unit.controllers.world import TENANT, World, in_world
from tests.unit.gateway.objects import CLASS, PORTS, TLS_PORTS, conditions, gateway, listener, route, rule, tls_secret

OTHER = TenantId("other")


@contextlib.asynccontextmanager
async def cloud(
    world: World, *, ports: GatewayPorts = PORTS, default: str = "", cluster_client: Any = None, offload: Any = None
) -> AsyncIterator[Gateways]:
    for tenant in (TENANT, OTHER):
        await world.tenants.ensure_tenant(tenant)
        served = world.api(tenant).served
        for row in ROWS:
            if served.by_path(row.resource.group, row.resource.version, row.resource.plural) is None:
                served.register(row)
    module = Gateways(
        world.store, world.api, world.tenants,
        ports=ports, addresses=["cloud.example"], reserved=["cloud.example"], default=default, wall=world.wall,
        cluster_client=cluster_client, offload=offload,
    )  # fmt: skip
    ready = asyncio.Event()
    task = asyncio.create_task(module.run(ready))
    try:
        await asyncio.wait_for(ready.wait(), 60)
        yield module
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def bare(obj: Object, **metadata: str) -> Object:
    """As a user applies it."""
    return {**obj, "metadata": {"name": obj["metadata"]["name"], **metadata}}


async def apply(world: World, *objects: Object, tenant: TenantId = TENANT) -> None:
    api = world.api(tenant)
    for obj in objects:
        spec = obj["spec"]
        if "controllerName" in spec:
            await api.create(kinds.GATEWAYCLASSES, "", bare(obj))
        elif "listeners" in spec:
            await api.create(kinds.GATEWAYS, "default", bare(obj))
        elif "parentRefs" in spec:
            await api.create(kinds.HTTPROUTES, "default", bare(obj))
        else:
            await api.create(kinds.INGRESSES, "default", bare(obj))


async def service(world: World, name: str = "web", tenant: TenantId = TENANT) -> None:
    """A Service with a ready pod on edge1, and one that is not."""
    api = world.api(tenant)
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    await api.create(SERVICES, "default", {"metadata": {"name": name}, "spec": {"ports": ports}})
    labels = {"kubernetes.io/service-name": name}
    slice_: Object = {
        "metadata": {"name": f"{name}-1", "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [
            {"addresses": ["10.244.1.2"], "nodeName": "edge1", "conditions": {"ready": True}},
            {"addresses": ["10.244.1.3"], "nodeName": "edge1", "conditions": {"ready": False}},
            {"addresses": ["10.0.0.9"], "conditions": {"ready": True}},
        ],
    }
    await api.create(ENDPOINTSLICES, "default", slice_)


async def accepted(world: World, name: str = "shop", tenant: TenantId = TENANT) -> dict[str, str]:
    found = await world.get(kinds.HTTPROUTES, name, tenant=tenant)
    return next((conditions(parent) for parent in (found.get("status") or {}).get("parents") or ()), {})


def serves(module: Gateways, host: str, scheme: str = "http") -> tuple[str, str] | None:
    """(tenant, backend) of a request for a host."""
    tenant = module.table.owner(host) or module.table.default
    if tenant is None or (entry := module.table.find(tenant, RouteRequest(scheme, host, "/"))) is None:
        return None
    return tenant, entry.rule.backends[0].service


@in_world
async def test_objects_in_any_order_become_routes_and_conditions(world: World) -> None:
    hosts: list[list[str]] = []
    async with cloud(world) as module:
        module.on_hosts = hosts.append
        await apply(world, route(hostnames=["shop.example"]))
        await world.settle()
        assert serves(module, "shop.example") is None and await accepted(world) == {}
        await apply(world, gateway(), CLASS)
        await world.settle()
        assert await accepted(world) == {"Accepted": "Accepted", "ResolvedRefs": "!BackendNotFound"}
        await service(world)
        await world.settle()
        assert await accepted(world) == {"Accepted": "Accepted", "ResolvedRefs": "ResolvedRefs"}
        assert serves(module, "shop.example") == (TENANT, "web") and hosts == [["shop.example"]]
        entry = module.table.find(TENANT, RouteRequest("http", "shop.example", "/"))
        assert entry is not None
        (pod,) = module.endpoints(TENANT, entry.rule.backends[0])
        assert (pod.node, pod.address, pod.port) == ("edge1", "10.244.1.2", 8080)
        edge = await world.get(kinds.GATEWAYS, "edge")
        assert conditions(edge["status"]) == {"Accepted": "Accepted", "Programmed": "Programmed"}
        assert edge["status"]["listeners"][0]["attachedRoutes"] == 1
        assert conditions((await world.get(kinds.GATEWAYCLASSES, "kubeedge"))["status"]) == {"Accepted": "Accepted"}
        await world.api().delete(kinds.HTTPROUTES, "default", "shop")
        await world.settle()
        assert serves(module, "shop.example") is None and hosts[-1] == []
        assert await world.store.get(keys.GATEWAY_HOSTS + "shop.example") is None


@in_world
async def test_a_status_is_written_once_and_not_again(world: World) -> None:
    async with cloud(world):
        await service(world)
        await apply(world, CLASS, gateway(), route(hostnames=["shop.example"]))
        await world.settle(5)
        before = (await world.get(kinds.HTTPROUTES, "shop"))["metadata"]["resourceVersion"]
        await world.settle(60)
        await world.api().create(SERVICES, "default", {"metadata": {"name": "n"}, "spec": {"ports": [{"port": 1}]}})
        await world.settle(5)
        assert (await world.get(kinds.HTTPROUTES, "shop"))["metadata"]["resourceVersion"] == before


@in_world
async def test_a_host_is_of_the_first_tenant_until_it_lets_it_go(world: World) -> None:
    async with cloud(world) as module:
        for tenant in (TENANT, OTHER):
            await service(world, tenant=tenant)
            await apply(world, CLASS, gateway(), route(hostnames=["shop.example"]), tenant=tenant)
            await world.settle()
        assert serves(module, "shop.example") == (TENANT, "web")
        assert (await accepted(world))["Accepted"] == "Accepted"
        assert (await accepted(world, tenant=OTHER))["Accepted"] == "!HostnameTaken"
        await apply(world, route(name="wild", hostnames=["*.example"]), tenant=OTHER)
        await apply(world, route(name="cloud", hostnames=["cloud.example"]), route(name="any"), tenant=OTHER)
        await world.settle()
        for name in ("wild", "cloud", "any"):
            assert (await accepted(world, name, OTHER))["Accepted"] == "!HostnameTaken"
        assert module.table.names == ["shop.example"]
        await world.api().delete(kinds.HTTPROUTES, "default", "shop")
        await world.settle(5)
        assert serves(module, "shop.example") == (OTHER, "web")
        assert (await accepted(world, tenant=OTHER))["Accepted"] == "Accepted"


@in_world
async def test_hosts_of_a_tenant_that_is_gone_are_free(world: World) -> None:
    async with cloud(world) as module:
        await apply(world, CLASS, gateway(), route(hostnames=["shop.example"]), tenant=OTHER)
        await world.settle()
        await world.tenants.remove_tenant(OTHER)
        await world.settle()
        await service(world)
        await apply(world, CLASS, gateway(), route(hostnames=["shop.example"]))
        await world.settle()
        assert serves(module, "shop.example") == (TENANT, "web")


@in_world
async def test_host_names_of_one_tenant_are_no_work_for_another(world: World) -> None:
    async with cloud(world) as module:
        await apply(world, CLASS, gateway(), route(hostnames=["theirs.example"]), tenant=OTHER)
        await world.settle()
        looks: list[str] = []
        setattr(module._running[OTHER], "look", lambda: looks.append("other"))  # noqa: B010
        setattr(module._running[TENANT], "hosts_changed", lambda: looks.append("told"))  # noqa: B010
        await apply(world, CLASS, gateway(), route(hostnames=["shop.example"]))
        await world.settle()
        assert module.table.names == ["shop.example", "theirs.example"]
        assert looks and set(looks) == {"told"}


@in_world
async def test_after_a_restart_everything_is_as_it_was(world: World) -> None:
    async with cloud(world, default=TENANT):
        await service(world)
        await apply(world, CLASS, gateway(), route(hostnames=["shop.example"]), route(rule("web"), name="any"))
        await world.settle()
        row = await world.store.get(keys.GATEWAY_HOSTS + "shop.example")
    async with cloud(world, default=TENANT) as module:
        await world.settle()
        assert serves(module, "shop.example") == serves(module, "whatever") == (TENANT, "web")
        assert module.table.owner("whatever") is None
        assert await world.store.get(keys.GATEWAY_HOSTS + "shop.example") == row


@in_world
async def test_a_certificate_is_read_again_when_its_secret_changes(world: World) -> None:
    tls = {"certificateRefs": [{"name": "tls"}]}
    async with cloud(world, ports=TLS_PORTS) as module:
        await service(world)
        secure = gateway(listener(port=443, protocol="HTTPS", tls=tls))
        await apply(world, CLASS, secure, route(hostnames=["shop.example"]))
        await world.settle()
        assert serves(module, "shop.example", "https") is None
        await world.api().create(SECRETS, "default", tls_secret("tls", "shop.example")[0])
        await world.settle()
        assert serves(module, "shop.example", "https") == (TENANT, "web")
        first = chosen(module)
        assert first is not None
        fresh = tls_secret("tls", "shop.example")[0]["data"]
        await world.api().merge_patch(SECRETS, "default", "tls", {"data": fresh})
        await world.settle()
        assert chosen(module) not in (None, first)
        await world.api().merge_patch(SECRETS, "default", "tls", {"data": {**fresh, "tls.key": "bm9uZQ=="}})
        await world.settle()
        assert chosen(module) is None and serves(module, "shop.example", "https") is None
        (web,) = (await world.get(kinds.GATEWAYS, "edge"))["status"]["listeners"]
        assert conditions(web)["ResolvedRefs"] == "!InvalidCertificateRef"


class Handshake:
    context: object = None


def chosen(module: Gateways) -> object:
    """The context for a name of the handshake."""
    connection = Handshake()
    module.choose_certificate(connection, "SHOP.example", None)  # type: ignore[arg-type]
    return connection.context


@in_world
async def test_an_ingress_serves_and_says_in_events_what_is_wrong(world: World) -> None:
    backend = {"service": {"name": "web", "port": {"name": "http"}}}
    paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
    one: Object = {"metadata": {"name": "old"}, "spec": {"rules": [{"host": "old.example", "http": {"paths": paths}}]}}
    async with cloud(world) as module:
        await apply(world, one)
        await world.settle()
        assert serves(module, "old.example") == (TENANT, "web")
        (event,) = await world.all(EVENTS)
        assert event["reason"] == "NotRouted" and event["message"] == "there is no Service default/web"
        await service(world)
        await world.settle()
        found = await world.get(kinds.INGRESSES, "old")
        assert found["status"]["loadBalancer"]["ingress"] == [{"hostname": "cloud.example"}]
        entry = module.table.find(TENANT, RouteRequest("http", "old.example", "/"))
        assert entry is not None and not entry.rule.backends[0].fault


@in_world
async def test_a_tenant_without_gateways_costs_four_watches(world: World) -> None:
    async with cloud(world) as module:
        await service(world)
        await world.api().create(NAMESPACES, "", {"metadata": {"name": "n"}})
        await world.settle()
        assert [len(found._services) for found in module._running.values()] == [0, 0]


@in_world
async def test_gateways_of_a_cluster_are_served_where_the_operator_says_so(world: World) -> None:
    """The cluster is an API of its own; an Ingress without a class is another controller's there."""
    plain: Object = {
        "metadata": {"name": "plain"},
        "spec": {"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}},
    }
    await world.tenants.ensure_tenant(OTHER)
    await world.tenants.use_cluster(OTHER, "/etc/kubeconfig")
    for served in (False, True):
        client = (lambda record: world.api(record.name)) if served else None
        async with cloud(world, default=OTHER, cluster_client=client) as module:
            if not served:
                await apply(world, CLASS, gateway(), route(hostnames=["shop.example"]), plain, tenant=OTHER)
                await service(world, tenant=OTHER)
            await world.settle()
            assert serves(module, "shop.example") == ((OTHER, "web") if served else None)
            assert serves(module, "any.example") is None
    assert await accepted(world, tenant=OTHER) == {"Accepted": "Accepted", "ResolvedRefs": "ResolvedRefs"}


@in_world
async def test_a_class_alone_says_what_is_supported(world: World) -> None:
    async with cloud(world):
        await apply(world, CLASS)
        await world.settle()
        status = (await world.get(kinds.GATEWAYCLASSES, "kubeedge", namespace=""))["status"]
        assert {"name": "HTTPRoute"} in status["supportedFeatures"] and conditions(status) == {"Accepted": "Accepted"}


@in_world
async def test_namespaces_are_selected_by_their_labels(world: World) -> None:
    selector = {"namespaces": {"from": "Selector", "selector": {"matchLabels": {"shop": "yes"}}}}
    async with cloud(world):
        await apply(world, CLASS, gateway(listener(allowedRoutes=selector)), route(hostnames=["shop.example"]))
        await world.settle()
        assert (await accepted(world))["Accepted"] == "!NotAllowedByListeners"
        await world.api().merge_patch(NAMESPACES, "", "default", {"metadata": {"labels": {"shop": "yes"}}})
        await world.settle()
        assert (await accepted(world))["Accepted"] == "Accepted"


@in_world
async def test_a_port_and_an_address_are_of_one_tenant(world: World) -> None:
    """The first has the port of TCP, and keeps it; each has an address that the other has not. What the first gives up is the second's."""
    shared = GatewayPorts(http=frozenset((80,)), shared={5432: "TCP"})
    tcp = listener("db", port=5432, protocol="TCP")
    async with cloud(world, ports=shared) as module:
        for tenant in (TENANT, OTHER):
            await apply(world, CLASS, gateway(tcp), tenant=tenant)
            await world.settle()
        first, second = [await listeners(world, tenant) for tenant in (TENANT, OTHER)]
        assert (first, second) == (["Accepted"], ["!PortUnavailable"])
        assert module.streams.tenant(ListenPoint("", 5432), None) == TENANT
        await world.api().delete(kinds.GATEWAYS, "default", "edge")
        await world.settle()
        assert await listeners(world, OTHER) == ["Accepted"]
        assert module.streams.tenant(ListenPoint("", 5432), None) == OTHER


@in_world
async def test_two_tenants_have_two_addresses(world: World) -> None:
    own = GatewayPorts(http=frozenset((80,)), addresses=("203.0.113.10", "203.0.113.11"), per_tenant=2)
    async with cloud(world, ports=own) as module:
        for tenant in (TENANT, OTHER):
            await apply(world, CLASS, gateway(), route(), tenant=tenant)
            await world.settle()
        found = {}
        for tenant in (TENANT, OTHER):
            status = (await world.get(kinds.GATEWAYS, "edge", tenant=tenant))["status"]
            found[tenant] = [address["value"] for address in status["addresses"]]
        assert found == {TENANT: ["203.0.113.10"], OTHER: ["203.0.113.11"]}
        assert set(module.points) == {ListenPoint("203.0.113.10", 80), ListenPoint("203.0.113.11", 80)}
        # routes without a host name are good there, though the operator names no default tenant
        assert (await accepted(world, tenant=OTHER))["Accepted"] == "Accepted"
        assert module.table._owners["203.0.113.11"] == OTHER and module.table.names == []


async def listeners(world: World, tenant: TenantId) -> list[str]:
    status = (await world.get(kinds.GATEWAYS, "edge", tenant=tenant))["status"]
    return [conditions(found)["Accepted"] for found in status["listeners"]]


@in_world
async def test_a_node_that_serves_gateways_is_given_their_table_until_they_go(world: World) -> None:
    async with cloud(world):
        await world.tenants.register(TENANT, NodeName("edge1"), "j")
        labels = {"kubernetes.io/hostname": "edge1"}
        await world.api().create(NODES, "", {"metadata": {"name": "edge1", "labels": labels}})
        of_nodes = {"metadata": {"name": "site"}, "spec": {"controllerName": "kubeedge.io/node-gateway"}}
        here = gateway()
        here["spec"]["gatewayClassName"] = "site"
        await service(world)
        await apply(world, of_nodes, here, route(hostnames=["shop.example"]))
        await world.settle()
        assert conditions((await world.get(kinds.GATEWAYS, "edge"))["status"])["Programmed"] == "!AddressNotUsable"
        prefix = keys.edge(TENANT, NodeName("edge1"))

        async def row() -> bytes | None:
            found = await world.store.get(f"{prefix}desired/{codec.ROW}")
            return None if found is None else found.value

        assert await row() is None
        said = reports.encoded(reports.ListenReport("192.168.1.2"))
        await world.store.put(f"{prefix}reported/{codec.ROW}", said)
        await world.settle()
        assert conditions((await world.get(kinds.GATEWAYS, "edge"))["status"])["Programmed"] == "Programmed"
        table = codec.decoded(TENANT, await row() or b"")
        assert [(e.hostname, e.at) for e in table.entries] == [("shop.example", ListenPoint("", 80))]
        failed = reports.ListenReport("192.168.1.2", (), {ListenPoint("", 80): "in use"})
        await world.store.put(f"{prefix}reported/{codec.ROW}", reports.encoded(failed))
        await world.settle()
        assert conditions((await world.get(kinds.GATEWAYS, "edge"))["status"])["Programmed"] == "!Invalid"
        await world.store.put(f"{prefix}reported/{codec.ROW}", b"nonsense")
        await world.settle()
        assert await row() is None, "it serves none, as far as is known"
        await world.store.put(f"{prefix}reported/{codec.ROW}", said)
        await world.settle()
        assert await row() is not None
    for kind, name in ((kinds.GATEWAYS, "edge"), (kinds.GATEWAYCLASSES, "site"), (kinds.HTTPROUTES, "shop")):
        await world.api().delete(kind, "default" if kind.namespaced else "", name)
    async with cloud(world):  # what went while no process was running
        await world.settle()
        assert await row() is None
