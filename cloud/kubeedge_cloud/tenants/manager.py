"""The Tenant Manager: who the tenants are, which nodes they have, and who has which number.

Lives here:      allocation and removal, reading records, following their changes.
Lives elsewhere: what a record holds (model.py), tokens (kubeedge_cloud.bootstrap), Node objects of the Kubernetes API
                 (kubeedge_cloud.edgecontroller makes them from the records).

It is also what other parts ask who a node is: `lookup` for the hub and the relay, `names`, `ensure`, `join_of`,
`register` and `entitle` for bootstrap and the administrator.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from kubeedge.api import keys, meta
from kubeedge.api.names import NodeName, NodeNumber, TenantId, TenantNumber, node_name, tenant_id
from kubeedge.api.node_ipv6 import NONE
from kubeedge.api.node_registration import NOTHING, NodeRegistration
from kubeedge.errors import Conflict, Invalid, NotFound, Unavailable
from kubeedge.store.model import Compare, CompareTarget, Delete, Op, Put, Store, absent
from kubeedge.store.reflector import read_all, reflect
from kubeedge_cloud.tenants import model
from kubeedge_cloud.tenants.model import AddressPlan, NodeRecord, TenantRecord

CLOUD = "cloud"  # as nodes call the cloud (kubebus.names)
_PIECE = 500  # keys
_ATTEMPTS = 300  # each lost race means that another writer got a number
DEFAULT_PLAN = AddressPlan()


class TenantManager:
    """Stateless over the store: any number of them, in any number of processes."""

    def __init__(
        self, store: Store, *, plan: AddressPlan = DEFAULT_PLAN, wall: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._plan = plan
        self._wall = wall

    @property
    def pods(self) -> str:
        """The network of all pods (`addresses.pods`)."""
        return self._plan.pods

    @property
    def plan(self) -> AddressPlan:
        """Where nodes and pods of every tenant live."""
        return self._plan

    # Tenants

    async def ensure_tenant(self, name: str) -> TenantRecord:
        """Find or make. Raises Invalid for a bad name, Unavailable when no number is free."""
        tenant = tenant_id(name)
        for _ in range(_ATTEMPTS):
            if (found := await self.tenant(tenant)) is not None:
                return found
            claims = await read_all(self._store, keys.TENANT_NUMBERS, keys_only=True)
            number = TenantNumber(
                model.lowest_free({_number_of(key) for key in claims}, model.MAX_TENANTS, "tenant numbers")
            )
            record = TenantRecord(tenant, number, meta.timestamp(self._wall()))
            claim = keys.tenant_number(number)
            done = await self._store.txn(
                [absent(keys.tenant(tenant)), absent(claim)],
                [Put(keys.tenant(tenant), record.encode()), Put(claim, tenant.encode())],
            )
            if done.succeeded:
                return record
        raise Conflict(f"tenant {tenant} could not be created: other writers were faster {_ATTEMPTS} times")

    async def tenant(self, tenant: TenantId) -> TenantRecord | None:
        """The record of a tenant; None when there is no such tenant."""
        kv = await self._store.get(keys.tenant(tenant))
        return model.decode_tenant(kv.value) if kv is not None else None

    async def allow_storage(self, tenant: TenantId, *, objects: int, size: int) -> TenantRecord:
        """How much it may store from now on; 0: as the configuration says. Raises NotFound without such a tenant."""
        return await self._change_tenant(tenant, lambda record: replace(record, objects=objects, size=size))

    async def _change_tenant(self, tenant: TenantId, change: Callable[[TenantRecord], TenantRecord]) -> TenantRecord:
        for _ in range(_ATTEMPTS):
            kv = await self._store.get(keys.tenant(tenant))
            if kv is None:
                raise NotFound(f"no tenant {tenant}; make it with `kubeedge tenant create {tenant}`")
            before = model.decode_tenant(kv.value)
            record = change(before)
            if record == before:
                return record
            unchanged = Compare(kv.key, CompareTarget.MOD, "=", kv.mod_revision)
            if (await self._store.txn([unchanged], [Put(kv.key, record.encode())])).succeeded:
                return record
        raise Conflict(f"the record of tenant {tenant} changed {_ATTEMPTS} times")

    async def use_cluster(self, tenant: TenantId, source: str) -> TenantRecord:
        """Whose API it uses from now on: that of a kubeconfig's cluster, of "in-cluster", or the embedded one (""). Raises NotFound."""
        return await self._change_tenant(tenant, lambda record: replace(record, cluster=source))

    async def remove_tenant(self, tenant: TenantId) -> bool:
        """The record, its number and everything that is stored for it; False: there was none. Raises Conflict while it has nodes."""
        for _ in range(_ATTEMPTS):
            kv = await self._store.get(keys.tenant(tenant))
            if kv is None:
                return False
            if names := [record.name for record in await self.nodes(tenant)]:
                raise Conflict(f"tenant {tenant} has {len(names)} nodes ({', '.join(names[:5])}): remove them first")
            ours = (keys.of_tenant(tenant), keys.kubeconfigs(tenant), keys.sessions(tenant))
            for prefix in ours:
                await self._empty(prefix)
            done = await self._store.txn(
                [Compare(kv.key, CompareTarget.MOD, "=", kv.mod_revision)],
                [
                    Delete(kv.key),
                    Delete(keys.tenant_number(model.decode_tenant(kv.value).number)),
                    *(Delete(prefix, keys.prefix_end(prefix)) for prefix in ours),
                ],
            )
            if done.succeeded:
                return True
        raise Conflict(f"tenant {tenant} could not be removed: its record changed {_ATTEMPTS} times")

    async def _empty(self, prefix: str) -> None:
        """In pieces: a tenant may have a hundred thousand objects, and other tenants write meanwhile."""
        while (found := await self._store.range(prefix, keys.prefix_end(prefix), limit=_PIECE, keys_only=True)).kvs:
            await self._store.txn((), [Delete(kv.key) for kv in found.kvs])

    async def tenants(self) -> Sequence[TenantRecord]:
        """All of them, in order of name."""
        return _tenants(await read_all(self._store, keys.TENANTS))

    async def follow_tenants(self) -> AsyncGenerator[Sequence[TenantRecord], None]:
        """All tenants, now and after every change of them, for ever."""
        async with aclosing(reflect(self._store, keys.TENANTS)) as changes:
            async for values, _ in changes:
                yield _tenants(values)

    # Nodes

    async def ensure_node(
        self, tenant: TenantId, node: str, join: str = "", registration: NodeRegistration = NOTHING
    ) -> NodeRecord:
        """Find, or make for that join, with the lowest free number.

        Raises NotFound without such a tenant, Invalid for a bad name, Unavailable when no number is free.
        """
        name = node_name(node)
        if name == CLOUD:
            raise Invalid(
                f"a node cannot be called {CLOUD}: to the nodes of a tenant that is the cloud itself", path="name"
            )
        key = model.node_key(tenant, name)
        for _ in range(_ATTEMPTS):
            owner = await self.tenant(tenant)
            if owner is None:
                raise NotFound(f"no tenant {tenant}; make it with `kubeedge tenant create {tenant}`")
            if (found := await self.lookup(tenant, name)) is not None:
                return await self._note_registration(found, registration)
            claims = await read_all(self._store, keys.node_numbers(tenant), keys_only=True)
            try:
                number = NodeNumber(
                    model.lowest_free({_number_of(k) for k in claims}, self._plan.nodes, "node numbers")
                )
            except Unavailable as exc:
                raise Unavailable(f"tenant {tenant}: {exc}") from exc
            record = NodeRecord(
                tenant,
                name,
                number,
                owner.number,
                self._plan.address(number),
                self._plan.pod_cidr(number),
                meta.timestamp(self._wall()),
                join,
                registration=registration,
                ipv6=self._plan.ipv6_of(number) if not owner.cluster else NONE,
            )
            claim = keys.node_number(tenant, number)
            done = await self._store.txn(
                [absent(key), absent(claim), Compare(keys.tenant(tenant), CompareTarget.VERSION, ">", 0)],
                [Put(key, record.encode()), Put(claim, name.encode())],
            )
            if done.succeeded:
                return record
        raise Conflict(f"node {name} could not be created: other writers were faster {_ATTEMPTS} times")

    async def node(self, tenant: TenantId, node: NodeName) -> NodeRecord | None:
        """The record of a node; None when the tenant has no such node."""
        kv = await self._store.get(model.node_key(tenant, node))
        return model.decode_node(tenant, kv.value) if kv is not None else None

    async def nodes(self, tenant: TenantId) -> Sequence[NodeRecord]:
        """All of them, in order of name."""
        return tuple(_nodes(tenant, await read_all(self._store, keys.nodes(tenant))).values())

    async def note_object(
        self,
        tenant: TenantId,
        node: NodeName,
        uid: str,
        pod_cidrs: Sequence[str],
        cluster: str = "",
        version: str = "",
    ) -> NodeRecord:
        """The node's Node in the tenant's cluster ("": there is none any more), the addresses that it has for pods (those of IPv4 first), which cluster
        it is, and with which resourceVersion it was made, if that is known now. Raises NotFound."""

        def note(record: NodeRecord) -> NodeRecord:
            four, six = (*pod_cidrs, "", "")[:2]
            made = version or record.version
            ipv6 = self._plan.ipv6_of(record.number, six) if six else NONE
            return replace(record, uid=uid, pod_cidr=four or record.pod_cidr, cluster=cluster, version=made, ipv6=ipv6)

        return await self._change_node(tenant, node, note)

    async def _note_registration(self, record: NodeRecord, registration: NodeRegistration) -> NodeRecord:
        """What a machine that joins again says counts when its Node is made again."""
        if not registration or registration == record.registration:
            return record
        return await self._change_node(
            record.tenant, record.name, lambda known: replace(known, registration=registration)
        )

    async def _change_node(
        self, tenant: TenantId, node: NodeName, change: Callable[[NodeRecord], NodeRecord]
    ) -> NodeRecord:
        for _ in range(_ATTEMPTS):
            kv = await self._store.get(model.node_key(tenant, node))
            if kv is None:
                raise NotFound(f"tenant {tenant} has no node {node}")
            before = model.decode_node(tenant, kv.value)
            record = change(before)
            same = Compare(kv.key, CompareTarget.MOD, "=", kv.mod_revision)
            if record == before or (await self._store.txn([same], [Put(kv.key, record.encode())])).succeeded:
                return record
        raise Conflict(f"the record of node {node} changed {_ATTEMPTS} times")

    async def follow_nodes(self, tenant: TenantId) -> AsyncGenerator[Mapping[NodeName, NodeRecord], None]:
        """All nodes of the tenant, now and after every change of them, for ever. The mapping is one and the same each time."""
        prefix = keys.nodes(tenant)
        records: dict[NodeName, NodeRecord] = {}
        async with aclosing(reflect(self._store, prefix)) as changes:
            async for values, changed in changes:
                for key in changed:
                    if key in values:
                        records[NodeName(key.removeprefix(prefix))] = model.decode_node(tenant, values[key])
                    else:
                        records.pop(NodeName(key.removeprefix(prefix)), None)
                yield records

    async def follow_subnets(self, tenant: TenantId) -> AsyncGenerator[Mapping[NodeName, Sequence[str]], None]:
        """Networks that the tenant allows behind its nodes, now and after every change, for ever."""
        prefix = keys.subnets(tenant, NodeName(""))
        async with aclosing(reflect(self._store, prefix)) as changes:
            async for values, _ in changes:
                yield {NodeName(key.removeprefix(prefix)): model.decode_subnets(values[key]) for key in values}

    async def remove_node(self, tenant: TenantId, node: NodeName) -> bool:
        """The record, its number, its claim, its session, and everything desired of and reported by the node. False: there was none."""
        key = model.node_key(tenant, node)
        prefix = keys.edge(tenant, node)
        for _ in range(_ATTEMPTS):
            kv = await self._store.get(key)
            if kv is None:
                return False
            record = model.decode_node(tenant, kv.value)
            done = await self._store.txn(
                [Compare(key, CompareTarget.MOD, "=", kv.mod_revision)],
                [
                    Delete(key),
                    Delete(keys.node_number(tenant, record.number)),
                    Delete(keys.subnets(tenant, node)),
                    # while the next machine joins there is a record already: its token must not meet the claim of this one
                    Delete(keys.certificate(tenant, node)),
                    Delete(prefix, keys.prefix_end(prefix)),
                    Delete(keys.session(tenant, node)),  # the process that holds its channel releases it
                ],
            )
            if done.succeeded:
                return True
        raise Conflict(f"node {node} could not be removed: its record changed {_ATTEMPTS} times")

    # What other parts ask

    async def lookup(self, tenant: TenantId, node: NodeName) -> NodeRecord | None:
        """As node(); one that joined before there was a plan for IPv6 gets its addresses now. A cluster gives them itself, when it makes the Node.
        Addresses stay; the network of all pods is the plan's, which may have become larger."""
        record = await self.node(tenant, node)
        if record is not None and self._plan.widened(record.ipv6) != record.ipv6:
            return await self._change_node(
                tenant, node, lambda known: replace(known, ipv6=self._plan.widened(known.ipv6))
            )
        if record is None or record.ipv6 or not (ipv6 := self._plan.ipv6_of(record.number)):
            return record
        owner = await self.tenant(tenant)
        if owner is None or owner.cluster:
            return record
        return await self._change_node(tenant, node, lambda known: known if known.ipv6 else replace(known, ipv6=ipv6))

    async def tenant_number(self, tenant: TenantId) -> TenantNumber | None:
        record = await self.tenant(tenant)
        return record.number if record is not None else None

    async def subnets(self, tenant: TenantId, node: NodeName) -> Sequence[str]:
        """Networks that the tenant allows behind the node: none until an administrator has allowed some."""
        kv = await self._store.get(keys.subnets(tenant, node))
        return model.decode_subnets(kv.value) if kv is not None else ()

    async def all_subnets(self, tenant: TenantId) -> dict[str, list[str]]:
        """The networks that are allowed, by node."""
        prefix = keys.subnets(tenant, NodeName(""))
        found = await read_all(self._store, prefix)
        return {key.removeprefix(prefix): list(model.decode_subnets(value)) for key, value in sorted(found.items())}

    async def allow_subnets(self, tenant: TenantId, node: NodeName, subnets: Sequence[str]) -> Sequence[str]:
        """Replaces what was allowed. Raises NotFound without such a node, Invalid for what is no network."""
        if await self.node(tenant, node) is None:
            raise NotFound(f"tenant {tenant} has no node {node}")
        networks = model.networks(subnets)
        if networks:
            await self._store.put(keys.subnets(tenant, node), model.encode_subnets(networks))
        else:
            await self._store.delete(keys.subnets(tenant, node))
        return networks

    async def names(self) -> list[TenantId]:
        """All tenants of the store."""
        return [record.name for record in await self.tenants()]

    async def ensure(self, tenant: TenantId) -> None:
        """Find or create a tenant, for callers that do not need its record (ensure_tenant)."""
        await self.ensure_tenant(tenant)

    async def join_of(self, tenant: TenantId, node: NodeName) -> str | None:
        """The join whose certificates stand for the node; None: there is no such node."""
        record = await self.node(tenant, node)
        return record.join if record is not None else None

    async def entitle(self, tenant: TenantId, node: NodeName, join: str) -> tuple[Sequence[Compare], Sequence[Op]]:
        """What makes the certificates of that join, and no others, stand for the node: to be written in one transaction with the use
        of the token. It ends the session of the machine that was the node before; links end by the record (bushub.authorizer)."""
        key = model.node_key(tenant, node)
        kv = await self._store.get(key)
        if kv is None:
            raise Conflict(f"node {node} was removed at the same moment")
        same = (Compare(key, CompareTarget.MOD, "=", kv.mod_revision),)
        record = model.decode_node(tenant, kv.value)
        if record.join == join:
            return same, ()
        return same, (Put(key, replace(record, join=join).encode()), Delete(keys.session(tenant, node)))

    async def register(
        self, tenant: TenantId, node: NodeName, join: str, registration: NodeRegistration = NOTHING
    ) -> Mapping[str, Any]:
        record = await self.ensure_node(tenant, node, join, registration)
        return {
            "number": record.number,
            "address": record.address,
            "podCIDR": record.pod_cidr,
            "podNetwork": self._plan.pods,
            **({"ipv6": record.ipv6.encode()} if record.ipv6 else {}),
        }


def _number_of(key: str) -> int:
    return int(key.rpartition("/")[2])


def _tenants(values: Mapping[str, bytes]) -> Sequence[TenantRecord]:
    return tuple(model.decode_tenant(values[key]) for key in sorted(values))


def _nodes(tenant: TenantId, values: Mapping[str, bytes]) -> dict[NodeName, NodeRecord]:
    records = [model.decode_node(tenant, values[key]) for key in sorted(values)]
    return {record.name: record for record in records}
