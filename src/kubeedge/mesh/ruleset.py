"""The rules of the service proxy in nft(8)'s language: what the kernel should have, and the changes that lead there. Pure.

One table `kubeedge-mesh` for each family, which is ours alone:

    map services       address . protocol . port -> chain of the port         cluster IPs and external addresses
    map node-ports     protocol . port -> chain of the port
    map refused        address . protocol . port -> reject or drop            ports without endpoints
    map refused-ports  protocol . port -> reject or drop
    set cluster-ips    what is left in them after translation is rejected
    set hairpin        a pod that reaches itself through a Service
    set outside, outside-ports   translated with this node's address, so that the answers come back through it

A port of a Service is one chain with one rule: a random endpoint from a map. So one endpoint that changes is one rule, and a Service more or less is
one element; nothing is evaluated in sequence, however many there are. No packet mark is used, and no chain of another program.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias, TypeVar

from kubeedge.kit.dataclasses import dataclass, field
from kubeedge.kit.ip import IpAddress, IpNetwork
from kubeedge.mesh.model import MAX_ENDPOINTS, PROTOCOLS, Endpoint, Service, ServicePort
from kubeedge.mesh.nft_names import ADDRESS_TYPE, FAMILY, short_digest
from kubeedge.mesh.table import choose

TABLE = "kubeedge-mesh"
_CLIENTS = 65_536  # that affinity remembers for one endpoint
V = TypeVar("V")
AddressPort: TypeAlias = tuple[IpAddress, int]

_LOOPBACK = {4: "127.0.0.0/8", 6: "::1"}


@dataclass(slots=True)
class Rules:
    """Of one Service and one family: chains by name, sets of affinity by name, elements by map or set."""

    chains: dict[str, tuple[str, ...]] = field(default_factory=dict)
    clients: dict[str, int] = field(default_factory=dict)  # set -> seconds
    elements: dict[str, dict[str, str]] = field(default_factory=dict)  # map -> key -> verdict; of a set: ""
    #: UDP: (address or None for a node port, port) -> where it leads; conntrack keeps what has led there before
    datagrams: dict[tuple[IpAddress | None, int], frozenset[AddressPort]] = field(default_factory=dict)

    def add(self, name: str, key: str, verdict: str = "") -> None:
        """One element of a map or a set."""
        self.elements.setdefault(name, {})[key] = verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalNode:
    """The node that the rules are for: its name and zone. `alone`: it has no link to other nodes."""

    node: str
    zone: str = ""
    alone: bool = False


def rules_of(service: Service, endpoints: Sequence[Endpoint], local_node: LocalNode, version: int) -> Rules:
    """What one Service needs in one family; nothing when it has no address in it."""
    rules = Rules()
    if service.headless or service.kind == "ExternalName" or not service.proxied:
        return rules
    mine = [e for e in endpoints if e.address.version == version and e.proxied]
    inside = [a for a in service.addresses if a.version == version]
    outside = [a for a in service.external if a.version == version]
    for address in inside:
        rules.add("cluster-ips", str(address))
    for port in service.ports:
        _port(rules, service, port, mine, inside, outside, local_node, version)
    for endpoint in mine if inside or outside else ():
        if endpoint.node == local_node.node:
            rules.add("hairpin", f"{endpoint.address} . {endpoint.address}")
    return rules


def _port(
    rules: Rules,
    service: Service,
    port: ServicePort,
    endpoints: Sequence[Endpoint],
    inside: Sequence[IpAddress],
    outside: Sequence[IpAddress],
    local_node: LocalNode,
    version: int,
) -> None:
    protocol = port.protocol.lower()
    has_node_port = bool(port.node_port) and bool(inside)

    def chosen(local: bool) -> tuple[list[AddressPort], str]:
        found = choose(
            service, endpoints, port.name, node=local_node.node, zone=local_node.zone, local=local, alone=local_node.alone
        )  # fmt: skip
        # kept out of the way of others when the policy is what leaves nothing
        anywhere = local and choose(service, endpoints, port.name, node=local_node.node, zone="", local=False)
        return found[:MAX_ENDPOINTS], "drop" if anywhere else "goto refuse"

    targets, refusal = chosen(service.local_inside)
    chain = _chain(rules, service, port, "in", targets, version) if inside and targets else ""
    for address in inside:
        key = f"{address} . {protocol} . {port.port}"
        rules.add(*(("services", key, f"goto {chain}") if chain else ("refused", key, refusal)))
    if protocol == "udp":
        rules.datagrams |= {(address, port.port): frozenset(targets) for address in inside}
    if not outside and not has_node_port:
        return
    targets, refusal = chosen(service.local_outside)
    chain = _chain(rules, service, port, "out", targets, version) if targets else ""
    for address in outside:
        key = f"{address} . {protocol} . {port.port}"
        rules.add(*(("services", key, f"goto {chain}") if chain else ("refused", key, refusal)))
        if chain and not service.local_outside:
            rules.add("outside", f"{address} . {port.port}")
    if has_node_port:
        key = f"{protocol} . {port.node_port}"
        rules.add(*(("node-ports", key, f"goto {chain}") if chain else ("refused-ports", key, refusal)))
        if chain and not service.local_outside:
            rules.add("outside-ports", str(port.node_port))
    if protocol == "udp":
        rules.datagrams |= {(address, port.port): frozenset(targets) for address in outside}
        rules.datagrams |= {(None, port.node_port): frozenset(targets)} if has_node_port else {}


def _chain(
    rules: Rules, service: Service, port: ServicePort, scope: str, targets: Sequence[AddressPort], version: int
) -> str:
    protocol, family = port.protocol.lower(), FAMILY[version]
    name = f"{scope}-{short_digest(service.key, port.name, protocol, port.port)}"
    translate = f"meta l4proto {protocol} dnat {family}"
    if not service.affinity:
        if len(targets) == 1:
            rules.chains[name] = (f"{translate} to {_target(*targets[0])}",)
        else:
            numbered = ", ".join(f"{i} : {address} . {number}" for i, (address, number) in enumerate(targets))
            rules.chains[name] = (f"{translate} addr . port to numgen random mod {len(targets)} map {{ {numbered} }}",)
        return name
    ends, known = [], []
    for address, number in targets:
        digest = short_digest(name, address, number, service.affinity)  # the timeout of a set cannot be changed
        rules.clients[f"clients-{digest}"] = service.affinity
        update = f"update @clients-{digest} {{ {family} saddr }}"
        rules.chains[f"to-{digest}"] = (update, f"{translate} to {_target(address, number)}")
        known.append(f"{family} saddr @clients-{digest} goto to-{digest}")
        ends.append(f"goto to-{digest}")
    numbered = ", ".join(f"{i} : {end}" for i, end in enumerate(ends))
    rules.chains[name] = (*known, f"numgen random mod {len(ends)} vmap {{ {numbered} }}")
    return name


def _target(address: IpAddress, number: int) -> str:
    return f"{address}:{number}" if address.version == 4 else f"[{address}]:{number}"


def header(version: int, pods: Iterable[IpNetwork], *, bridged: bool) -> str:
    """The table in place of an earlier one, with what does not depend on Services. `pods`: of this node. `bridged`: what goes from pod to pod
    over the bridge passes the kernel's rules (net.bridge.bridge-nf-call-iptables); otherwise an answer would not find its way back through
    the translation, so the node's address takes the place of the pod's."""
    family, kind, own = FAMILY[version], ADDRESS_TYPE[version], [str(n) for n in pods if n.version == version]
    local = f"{{ {', '.join(own)} }}"
    mine = f"{family} saddr != {local} " if own else ""
    flat = (
        f"    ct status dnat {family} saddr {local} {family} daddr {local} masquerade\n" if own and not bridged else ""
    )
    returning = "".join(
        f"    meta l4proto {protocol} ct status dnat ct original {family} daddr . ct original proto-dst @outside masquerade\n"
        f"    meta l4proto {protocol} ct status dnat ct original {family} daddr != @cluster-ips "
        "ct original proto-dst @outside-ports masquerade\n"
        for protocol in map(str.lower, PROTOCOLS)
    )
    fourfold = f"{kind} . inet_proto . inet_service"
    return f"""table {family} {TABLE} {{
}}
delete table {family} {TABLE}
table {family} {TABLE} {{
  map services {{ type {fourfold} : verdict; }}
  map node-ports {{ type inet_proto . inet_service : verdict; }}
  map refused {{ type {fourfold} : verdict; }}
  map refused-ports {{ type inet_proto . inet_service : verdict; }}
  set cluster-ips {{ type {kind}; }}
  set hairpin {{ type {kind} . {kind}; }}
  set outside {{ type {kind} . inet_service; }}
  set outside-ports {{ type inet_service; }}
  chain refuse {{
    reject
  }}
  chain translate {{
    {family} daddr . meta l4proto . th dport vmap @services
    {family} daddr != {_LOOPBACK[version]} fib daddr type local meta l4proto . th dport vmap @node-ports
  }}
  chain refusals {{
    {family} daddr . meta l4proto . th dport vmap @refused
    {family} daddr @cluster-ips goto refuse
  }}
  chain prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    jump translate
  }}
  chain output {{
    type nat hook output priority -100; policy accept;
    jump translate
  }}
  chain refuse-forward {{
    type filter hook forward priority filter - 10; policy accept;
    ct state new jump refusals
  }}
  chain refuse-output {{
    type filter hook output priority filter - 10; policy accept;
    ct state new jump refusals
  }}
  chain refuse-input {{
    type filter hook input priority filter - 10; policy accept;
    ct state new jump refusals
    ct state new meta l4proto . th dport vmap @refused-ports
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    {family} saddr . {family} daddr @hairpin ct status dnat masquerade
    {mine}ct status dnat ct original {family} daddr @cluster-ips masquerade
{returning}{flat}  }}
}}
"""


def remove(version: int) -> str:
    """The table goes; that it is not there is no error."""
    family = FAMILY[version]
    return f"table {family} {TABLE} {{\n}}\ndelete table {family} {TABLE}\n"


def changes(old: Mapping[str, Rules], new: Mapping[str, Rules], keys: Collection[str], version: int) -> str:
    """The commands, for one transaction, that lead from the rules of these Services to the new ones; "" for nothing."""
    table = f"{FAMILY[version]} {TABLE}"
    concerned = sorted({*keys, *_contesting(old, new, keys)})
    before, after = [[rules[key] for key in concerned if key in rules] for rules in (old, new)]
    chains, wanted = _merged(r.chains for r in before), _merged(r.chains for r in after)
    clients, remembered = _merged(r.clients for r in before), _merged(r.clients for r in after)
    lines: list[str] = []
    for name in remembered.keys() - clients.keys():
        kind = f"type {ADDRESS_TYPE[version]}; flags dynamic, timeout; timeout {remembered[name]}s; size {_CLIENTS}"
        lines.append(f"add set {table} {name} {{ {kind}; }}")
    changed = [name for name, rules in wanted.items() if chains.get(name) != rules]
    lines += [f"add chain {table} {name}" for name in changed if name not in chains]
    lines += [f"flush chain {table} {name}" for name in changed if name in chains]
    for name in changed:
        lines += [f"add rule {table} {name} {rule}" for rule in wanted[name]]
    lines += _elements(table, before, after)
    gone = [name for name in chains if name not in wanted]
    lines += [f"flush chain {table} {name}" for name in gone]
    lines += [f"delete chain {table} {name}" for name in gone]
    lines += [f"delete set {table} {name}" for name in clients if name not in remembered]
    return "".join(f"{line}\n" for line in lines)


def _contesting(old: Mapping[str, Rules], new: Mapping[str, Rules], keys: Collection[str]) -> Iterator[str]:
    """Other Services that have an element in common with these: a pod behind both, a node port or an external address that both want. The first
    one by name has it, and it goes with the last one."""
    touched: dict[str, set[str]] = {}
    for rules in (old, new):
        for key in keys:
            for name, elements in rules[key].elements.items() if key in rules else ():
                touched.setdefault(name, set()).update(elements)
    for key, other in new.items():
        if key not in keys and any(
            name in touched and not touched[name].isdisjoint(elements) for name, elements in other.elements.items()
        ):
            yield key


def _elements(table: str, before: Sequence[Rules], after: Sequence[Rules]) -> Iterator[str]:
    names = dict.fromkeys(name for rules in (*before, *after) for name in rules.elements)
    for name in names:
        have = _merged(r.elements.get(name, {}) for r in before)
        want = _merged(r.elements.get(name, {}) for r in after)
        if gone := [key for key, verdict in have.items() if want.get(key) != verdict]:
            yield f"delete element {table} {name} {{ {', '.join(gone)} }}"
        if fresh := [(key, verdict) for key, verdict in want.items() if have.get(key) != verdict]:
            yield f"add element {table} {name} {{ {', '.join(f'{k} : {v}' if v else k for k, v in fresh)} }}"


def _merged(parts: Iterable[Mapping[str, V]]) -> dict[str, V]:
    found: dict[str, V] = {}
    for part in parts:
        for key, value in part.items():
            found.setdefault(key, value)
    return found


def stale_datagrams(
    old: Mapping[str, Rules] | None, new: Mapping[str, Rules]
) -> dict[tuple[IpAddress | None, int], frozenset[AddressPort]]:
    """UDP ports that lead to less than before, or no longer exist: where they lead now. `old` None: nobody knows what was before."""
    now: dict[tuple[IpAddress | None, int], frozenset[AddressPort]] = {}
    for rules in new.values():
        for port, targets in rules.datagrams.items():
            now[port] = now.get(port, frozenset()) | targets
    if old is None:
        return now
    found = {}
    for rules in old.values():
        for port, targets in rules.datagrams.items():
            if targets - now.get(port, frozenset()):
                found[port] = now.get(port, frozenset())
    return found
