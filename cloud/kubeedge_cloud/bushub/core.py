"""The links of nodes at one relay: who is admitted with which addresses, what gives way, and which routes follow. Pure.

A link is opened when its certificate is known, and admitted by the node's hello: hello() decides, and once the data plane has admitted the link,
admitted() says what follows. What the data plane has to do is returned as actions, in order; CONTROL frames wait in the links, which `Flush` names.

Lives elsewhere: links of one node (linked.py), networks behind nodes (subnets.py), other relays (peers.py), sockets (driver.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_interface

from kubeedge.api.names import NodeKey, NodeName, NodeNumber, PortId, TenantId, TenantNumber
from kubeedge.kubebus.l2.core import LinkCore, LinkSettings, Role
from kubeedge.kubebus.l2.messages import MAX_ROUTES, Hello, Subnet, Welcome
from kubeedge_cloud.bushub.actions import Drop, Flush, LinkAction, Reroute, ResetPeer
from kubeedge_cloud.bushub.linked import LinkedNode, LinkedNodes
from kubeedge_cloud.bushub.records import NextHop
from kubeedge_cloud.bushub.subnets import RouteChange, SubnetTable, allowed
from kubeedge_cloud.tenants.model import NodeRecord, same_node

_MTU = 1500  # of the overlay


@dataclass(slots=True)
class NodeLink:
    """One link of a node whose certificate is good."""

    port: PortId  # of the data plane
    node: NodeKey
    record: NodeRecord
    allowed: Sequence[str]  # networks that may be behind the node
    core: LinkCore
    since: float  # when it was opened
    hello: Hello | None = None  # once it is admitted
    seen: tuple[int, int] = (0, 0)  # bytes and segments received when it was last looked at


@dataclass(frozen=True, slots=True)
class HelloDecision:
    """The answer to a hello. `refuse`: why not. Otherwise `evict` is to be done before the data plane admits the link, `give_way` after it."""

    refuse: str = ""
    evict: Sequence[Drop] = ()
    give_way: Sequence[Drop] = ()
    own: Sequence[str] = ()  # prefixes of the node itself
    behind: Sequence[Subnet] = ()  # networks behind it that are allowed
    refused: Sequence[str] = field(default=())  # prefixes that are not

    @property
    def prefixes(self) -> list[str]:
        """Sources that the link may send from."""
        return [*self.own, *(s.prefix for s in self.behind)]


class NodeLinks:
    """`pods`: the network of all pods, `relay` and `number`: name and number of this relay."""

    def __init__(self, *, settings: LinkSettings, pods: str, relay: str, number: NodeNumber) -> None:
        self._settings = settings
        self._pods = pods
        self._relay = relay
        self._number = number
        self._links: dict[PortId, NodeLink] = {}  # by port
        self._nodes = LinkedNodes()
        self._subnets: dict[TenantNumber, SubnetTable] = {}  # by tenant number
        self._ours: dict[TenantNumber, Sequence[Subnet]] = {}  # networks behind this machine
        self._tenant_numbers: dict[TenantId, TenantNumber] = {}  # of tenants that have had links, or were asked for
        self._holders: dict[tuple[TenantNumber, NodeNumber], NodeKey] = {}  # (tenant number, node number) -> who has it

    def __iter__(self) -> Iterator[NodeLink]:
        return iter(list(self._links.values()))

    def get(self, port: PortId) -> NodeLink | None:
        """The link on a port; None when no link of a node is there."""
        return self._links.get(port)

    def node(self, node: NodeKey) -> LinkedNode | None:
        """Only of nodes that are linked here."""
        return self._nodes.get(node)

    def ports(self, node: NodeKey) -> list[PortId]:
        """The port of each link slot; empty when the node has no link here."""
        linked = self._nodes.get(node)
        return list(linked.slots.values()) if linked is not None else []

    def linked(self, tenant: TenantId) -> dict[NodeName, NodeRecord]:
        """Nodes of a tenant that have links, with the oldest record that one of them was made by."""
        found: dict[NodeName, NodeRecord] = {}
        for link in self._links.values():
            if link.node[0] == tenant:
                found.setdefault(link.node[1], link.record)
        return found

    def learn_tenant(self, tenant: TenantId, number: TenantNumber) -> None:
        """Changes of its records concern us, though it has no link here: its nodes are reached by other relays."""
        self._tenant_numbers[tenant] = number

    def table(self, tenant: TenantNumber) -> SubnetTable:
        """Networks behind the nodes of that tenant number."""
        return self._subnets.setdefault(tenant, SubnetTable())

    def ours(self, tenant: TenantNumber) -> Sequence[Subnet]:
        """Networks behind this machine, for the nodes of that tenant."""
        return self._ours.get(tenant, ())

    # -- the life of a link --------------------------------------------------------------------------------------------

    def new_link(self) -> LinkCore:
        """The conversation on a link, before its owner is known."""
        return LinkCore(Role.RELAY, self._settings)

    def open(self, port: PortId, node: NodeKey, record: NodeRecord, allowed: Sequence[str], now: float) -> NodeLink:
        """A link whose certificate stands for the node of that record."""
        core = self.new_link()
        core.open(now)
        link = self._links[port] = NodeLink(port, node, record, allowed, core, now)
        self.learn_tenant(node[0], record.tenant_number)
        return link

    def hello(self, link: NodeLink, hello: Hello, now: float, *, elsewhere: str = "") -> HelloDecision:
        """`elsewhere`: the instance of the node's agent that is linked to another relay, if one is."""
        record = link.record
        decision = self._nodes.join(link.node, hello.instance, hello.slot, link.port, now, elsewhere=elsewhere)
        if decision.refuse:
            return HelloDecision(refuse=decision.refuse)
        evict: list[Drop] = []
        holder = self._holders.get((record.tenant_number, record.number))
        if holder is not None and holder != link.node:  # ours is the newer record: a number has one owner in the store
            evict = [Drop(port, f"node {link.node[1]} has its number now") for port in self.ports(holder)]
        self._holders[record.tenant_number, record.number] = link.node
        overlay = str(ip_interface(record.address).network)
        ours = [subnet.prefix for subnet in self.ours(record.tenant_number)]
        behind, refused = allowed(hello.subnets, link.allowed, (overlay, self._pods, *record.ipv6.networks, *ours))
        return HelloDecision(
            evict=evict,
            give_way=[Drop(port, reason) for port, reason in decision.drop],
            own=[record.address.split("/")[0] + "/32", record.pod_cidr, *record.ipv6.own],
            behind=behind,
            refused=refused,
        )

    def admitted(self, link: NodeLink, hello: Hello, decision: HelloDecision) -> list[LinkAction]:
        """The data plane has admitted the link; its welcome waits in it."""
        record = link.record
        link.hello = hello
        table = self.table(record.tenant_number)
        actions = [
            *decision.give_way,
            *self._change_routes(record.tenant_number, table.offer(record.number, decision.behind)),
        ]
        link.core.welcome(
            Welcome(
                record.number,
                record.address,
                record.pod_cidr,
                [*self.ours(record.tenant_number), *table.routes(without=record.number)][:MAX_ROUTES],
                _MTU,
                self._relay,
                self._number,
                decision.refused,
                record.ipv6,
            )  # fmt: skip
        )
        return actions

    def closed(self, port: PortId) -> tuple[NodeLink | None, bool, list[LinkAction]]:
        """(the link, whether it was the node's last one, what follows). A link that was never opened is None."""
        link = self._links.pop(port, None)
        if link is None or not self._nodes.leave(link.node, port):
            return link, False, []
        tenant, number = link.record.tenant_number, link.record.number
        if self._holders.get((tenant, number)) == link.node:
            del self._holders[tenant, number]
        return link, True, self._change_routes(tenant, self.table(tenant).away(number))

    # -- records that change -------------------------------------------------------------------------------------------

    def record_changed(self, node: NodeKey, number: NodeNumber, newest: NodeRecord | None) -> list[LinkAction]:
        """Links that were made by the record with that number end; those of a machine that has joined under the same name stay."""
        if newest is None:
            self._nodes.forget(node)
        why = "the node was removed" if newest is None else "another machine joined under its name"
        outdated = [e for e in self._links.values() if e.node == node and not same_node(e.record, newest)]
        actions: list[LinkAction] = [Drop(link.port, why) for link in outdated]
        tenant = self._tenant_numbers.get(node[0])
        if tenant is None or self._holders.get((tenant, number), node) != node:
            return actions  # the number is another node's by now
        actions.append(ResetPeer(tenant, number))  # what was on its way to the one machine is not for the next
        if newest is None or newest.number != number:  # else the networks behind it are its own still
            actions += self._change_routes(tenant, self.table(tenant).offer(number, ()))
        return actions

    def allowed_changed(self, node: NodeKey, subnets: Sequence[str]) -> list[LinkAction]:
        """Links that were made when other networks were allowed behind the node are closed, to be made again."""
        changed = [e for e in self._links.values() if e.node == node and list(e.allowed) != list(subnets)]
        return [Drop(link.port, "what may be behind the node was changed") for link in changed]

    # -- nodes at other relays -----------------------------------------------------------------------------------------

    def moved(self, node: NodeKey, next_hop: NextHop) -> list[LinkAction]:
        """Another relay has the node now; what is left of it here would only shadow the way there."""
        linked = self._nodes.get(node)
        if linked is None:
            return []
        if linked.instance != next_hop.instance:
            self._nodes.replaced(node, linked.instance)
        return [Drop(port, f"the node is linked to relay {next_hop.relay} now") for port in linked.slots.values()]

    def next_hop_changed(self, node: NodeKey, older: NextHop | None, next_hop: NextHop | None) -> list[LinkAction]:
        """Networks behind a node of another relay follow it; None: no relay has the node."""
        if self._nodes.get(node) is not None:
            return []
        if next_hop is not None:
            changes = self.table(next_hop.tenant).offer(next_hop.number, next_hop.subnets)
            return self._change_routes(next_hop.tenant, changes)
        if older is not None:
            return self._change_routes(older.tenant, self.table(older.tenant).away(older.number))
        return []

    # -- networks behind this machine ----------------------------------------------------------------------------------

    def offer_ours(self, tenant: TenantNumber, subnets: Sequence[Subnet]) -> list[LinkAction]:
        """What is behind this machine from now on, for the nodes of that tenant."""
        wanted = {subnet.prefix for subnet in subnets}
        withdraw = [subnet.prefix for subnet in self.ours(tenant) if subnet.prefix not in wanted]
        self._ours[tenant] = list(subnets)
        actions: list[LinkAction] = []
        for link in self._one_of_each(tenant):
            link.core.change_routes(list(subnets), withdraw)
            actions.append(Flush(link.port))
        return actions

    # -- routes --------------------------------------------------------------------------------------------------------

    def _change_routes(self, tenant: TenantNumber, changes: Sequence[RouteChange]) -> list[LinkAction]:
        """For the data plane, and for one link of each node of the tenant."""
        if not changes:
            return []
        actions: list[LinkAction] = [Reroute(tenant, change) for change in changes]
        for link in self._one_of_each(tenant):
            own = link.record.number
            add = [c.subnet for c in changes if c.number not in (None, own)]
            withdraw = [c.subnet.prefix for c in changes if c.number in (None, own)]
            link.core.change_routes(add, withdraw)
            actions.append(Flush(link.port))
        return actions

    def _one_of_each(self, tenant: TenantNumber) -> Iterator[NodeLink]:
        """A link of each node of the tenant that is admitted."""
        told: set[NodeKey] = set()
        for link in self._links.values():
            if link.record.tenant_number == tenant and link.hello is not None and link.node not in told:
                told.add(link.node)
                yield link
