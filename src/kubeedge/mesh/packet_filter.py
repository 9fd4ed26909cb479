"""The rules of NetworkPolicies in nft(8)'s language: what the kernel should have, and the changes that lead there. Pure.

One table `kubeedge-policy` for each family, which is ours alone. Two chains look at what is passed on from and to pods, one after the other, so
that what the sender's policies allow must be allowed by the receiver's, too:

    map isolated-out    address of a pod of this node -> chain of the policies that select it for egress
    map isolated-in     the same for ingress
    set itself          address . address: a pod always reaches itself
    set known           addresses of pods that this node knows; what has another one of its networks is a pod that has just begun, and sends and
                        gets nothing until its policies are found

A pod's chain jumps to the chain of each of its policies, which accept what they allow, and ends with drop; pods with the same policies share it.
Answers pass by what conntrack knows. What the node itself sends to its pods, and they to it, is not passed on, and so is not looked at.
Peers are sets of addresses: a pod that comes or goes elsewhere is one element.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence

from kubeedge.kit.dataclasses import dataclass, field
from kubeedge.kit.ip import IpAddress, IpNetwork
from kubeedge.mesh.network_policy import DIRECTIONS, AllowedTraffic, NetworkPolicy, PolicyPod
from kubeedge.mesh.nft_names import ADDRESS_TYPE, FAMILY, short_digest

TABLE = "kubeedge-policy"
_SHORT = {"ingress": "in", "egress": "out"}
_OTHER_SIDE = {"ingress": "saddr", "egress": "daddr"}


@dataclass(slots=True)
class FilterRules:
    """Of one family: chains by name, sets with type and elements by name, elements of the maps of isolated pods, addresses of all of these."""

    chains: dict[str, tuple[str, ...]] = field(default_factory=dict)
    sets: dict[str, tuple[str, frozenset[str]]] = field(default_factory=dict)
    isolated: dict[str, dict[str, str]] = field(default_factory=dict)  # map -> address -> verdict
    itself: set[str] = field(default_factory=set)
    known: set[str] = field(default_factory=set)


def filter_rules(
    policies: Iterable[NetworkPolicy],
    pods: Sequence[PolicyPod],
    node: str,
    version: int,
    known: Iterable[IpAddress] = (),
) -> FilterRules:
    """What the policies mean for the pods of this node in one family. `known`: addresses of all its pods."""
    found = FilterRules(known={str(address) for address in known if address.version == version})
    mine = [pod for pod in pods if pod.address.version == version]
    ordered = sorted(policies, key=lambda policy: policy.key)
    for direction in DIRECTIONS:
        short = _SHORT[direction]
        concerned = [policy for policy in ordered if direction in policy.rules]
        used: dict[str, NetworkPolicy] = {}
        for pod in mine:
            selecting = [policy for policy in concerned if policy.selects(pod)]
            if not selecting:
                continue
            used |= {policy.key: policy for policy in selecting}
            name = f"{short}-pods-{short_digest(*(policy.key for policy in selecting))}"
            jumps = tuple(f"jump {_chain_of(short, policy)}" for policy in selecting)
            found.chains[name] = (*jumps, "drop")
            found.isolated.setdefault(f"isolated-{short}", {})[str(pod.address)] = f"goto {name}"
            found.itself.add(f"{pod.address} . {pod.address}")
        for policy in used.values():
            rules: list[str] = []
            for number, rule in enumerate(policy.rules[direction]):
                writer = _RuleWriter(found, rule, direction, short_digest(policy.key, direction, number), version)
                rules += writer.lines(mine, policy, node)
            found.chains[_chain_of(short, policy)] = tuple(dict.fromkeys(rules))
    return found


def _chain_of(short: str, policy: NetworkPolicy) -> str:
    return f"{short}-policy-{short_digest(policy.key)}"


class _RuleWriter:
    """The lines of one rule of a policy, and the sets that they use."""

    def __init__(self, into: FilterRules, rule: AllowedTraffic, direction: str, digest: str, version: int) -> None:
        self._into, self._rule, self._direction = into, rule, direction
        self._digest, self._version = digest, version
        self._family, self._kind = FAMILY[version], ADDRESS_TYPE[version]

    def lines(self, pods: Sequence[PolicyPod], policy: NetworkPolicy, node: str) -> Iterator[str]:
        """`pods`: of this node, in this family."""
        rule = self._rule
        local = [pod for pod in pods if any(selection.means(pod) for selection in rule.selections)]
        far = [pod for pod in rule.pods if pod.node != node and pod.address.version == self._version]
        plain = [""] if rule.all_ports else list(_ports(rule.ports))
        peers = list(self._peers([*(pod.address for pod in local), *(pod.address for pod in far)]))
        named = self._named_of(pods, policy) if self._direction == "ingress" else ""
        for peer in peers:
            for port in (*plain, *([named] if named else [])):
                yield " ".join(filter(None, (peer, port, "accept")))
        if self._direction == "egress" and rule.names:
            numbers = {
                _target(pod.address, protocol, number)
                for name, protocol in rule.names
                for pod in (pods if rule.everybody else local)
                if (number := pod.port(name, protocol))
            }
            numbers |= {
                _target(pod.address, protocol, number)
                for name, protocol in rule.names
                for pod in far
                if (number := pod.ports.get(f"{name}/{protocol}", 0))
            }
            yield f"{self._destinations(numbers)} accept"

    def _named_of(self, pods: Sequence[PolicyPod], policy: NetworkPolicy) -> str:
        """Ports by name are those of the pods that the policy selects."""
        if not self._rule.names:
            return ""
        return self._destinations(
            _target(pod.address, protocol, number)
            for name, protocol in self._rule.names
            for pod in pods
            if policy.selects(pod) and (number := pod.port(name, protocol))
        )

    def _destinations(self, elements: Iterable[str]) -> str:
        name = f"ports-{self._digest}"
        self._into.sets[name] = f"{self._kind} . inet_proto . inet_service", frozenset(elements)
        return f"{self._family} daddr . meta l4proto . th dport @{name}"

    def _peers(self, addresses: Sequence[IpAddress]) -> Iterator[str]:
        """What matches the other side; "": it is not looked at."""
        rule, side = self._rule, f"{self._family} {_OTHER_SIDE[self._direction]}"
        if rule.everybody:
            yield ""
            return
        if rule.selections:
            name = f"peers-{self._digest}"
            self._into.sets[name] = self._kind, frozenset(map(str, addresses))
            yield f"{side} @{name}"
        blocks = [block for block in rule.blocks if block[0].version == self._version]
        whole = _collapsed(network for network, parts in blocks if not parts)
        if any(network.prefixlen == 0 for network in whole):
            yield ""
        elif whole:
            yield f"{side} {{ {', '.join(map(str, whole))} }}"
        for network, parts in blocks:
            left_out = _collapsed(parts)
            if not parts or any(part.prefixlen == 0 for part in left_out):
                continue
            inside = f"{side} {network} " if network.prefixlen else ""
            yield f"{inside}{side} != {{ {', '.join(map(str, left_out))} }}"


def _ports(ports: Iterable[tuple[str, int, int]]) -> Iterator[str]:
    by_protocol: dict[str, list[tuple[int, int]]] = {}
    for protocol, first, last in sorted(ports):
        ranges = by_protocol.setdefault(protocol, [])
        if ranges and first <= ranges[-1][1] + 1:
            ranges[-1] = ranges[-1][0], max(last, ranges[-1][1])
        else:
            ranges.append((first, last))
    for protocol, ranges in by_protocol.items():
        if ranges[0] == (0, 65_535):
            yield f"meta l4proto {protocol.lower()}"
        else:
            listed = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)
            yield f"meta l4proto {protocol.lower()} th dport {{ {listed} }}"


def _collapsed(networks: Iterable[IpNetwork]) -> list[IpNetwork]:
    """Without overlaps, which a set of nft may not have. All are of one version."""
    return list(ipaddress.collapse_addresses(networks))  # type: ignore[type-var]


def _target(address: IpAddress, protocol: str, number: int) -> str:
    return f"{address} . {protocol.lower()} . {number}"


def header(version: int, bridge: str = "", networks: Iterable[IpNetwork] = ()) -> str:
    """The table in place of an earlier one, with what does not depend on policies. `networks`: of the pods of this node. `bridge`: of these pods, which
    have link-local addresses, too, by which they would reach each other, and groups: that is closed, but for the search for neighbours."""
    family, kind = FAMILY[version], ADDRESS_TYPE[version]
    neighbours = (
        "    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, nd-router-advert } accept\n"
        if version == 6
        else ""
    )
    own = ", ".join(str(network) for network in networks if network.version == version)
    over = f'    iifname "{bridge}" oifname "{bridge}"'
    link_local = [f"{over} ip6 {side} drop\n" for side in ("saddr fe80::/10", "daddr { fe80::/10, ff00::/8 }")]
    inside = f"{neighbours}{''.join(link_local)}" if own else f"{over} drop\n"
    closed = (
        f"  chain neighbours {{\n    type filter hook forward priority filter - 7; policy accept;\n{inside}  }}\n"
        if bridge
        else ""
    )
    # a process needs no privilege to send with a source of IPv6 that its pod has not got (IPV6_FREEBIND), under which no policy would know it
    foreign = f'    iifname "{bridge}" {family} saddr != @known drop\n' if bridge else ""
    new_from, new_to = (
        f"    {family} {side} {{ {own} }} {family} {side} != @known drop\n" if own else ""
        for side in ("saddr", "daddr")
    )
    first = f"    ct state established,related accept\n{neighbours}    {family} saddr . {family} daddr @itself accept\n"
    return f"""{remove(version)}table {family} {TABLE} {{
  map isolated-out {{ type {kind} : verdict; }}
  map isolated-in {{ type {kind} : verdict; }}
  set itself {{ type {kind} . {kind}; }}
  set known {{ type {kind}; }}
{closed}  chain egress {{
    type filter hook forward priority filter - 6; policy accept;
{first}{foreign}{new_from}    {family} saddr vmap @isolated-out
  }}
  chain ingress {{
    type filter hook forward priority filter - 5; policy accept;
{first}{new_to}    {family} daddr vmap @isolated-in
  }}
}}
"""


def remove(version: int) -> str:
    """The table goes; that it is not there is no error."""
    return f"table {FAMILY[version]} {TABLE} {{\n}}\ndelete table {FAMILY[version]} {TABLE}\n"


def changes(old: FilterRules, new: FilterRules, version: int) -> str:
    """The commands, for one transaction, that lead from one to the other; "" for nothing."""
    table = f"{FAMILY[version]} {TABLE}"
    lines: list[str] = []
    for name, (kind, _) in new.sets.items():
        if name not in old.sets:
            lines.append(f"add set {table} {name} {{ type {kind}; }}")
    changed = [name for name, rules in new.chains.items() if old.chains.get(name) != rules]
    lines += [f"add chain {table} {name}" for name in changed if name not in old.chains]
    lines += [f"flush chain {table} {name}" for name in changed if name in old.chains]
    for name in sorted(changed, key=lambda name: "-pods-" in name):  # a jump needs the chain that it leads to
        lines += [f"add rule {table} {name} {rule}" for rule in new.chains[name]]
    for name, (_, elements) in new.sets.items():
        lines += _set_changes(table, name, old.sets.get(name, ("", frozenset()))[1], elements)
    lines += _set_changes(table, "itself", old.itself, new.itself)
    lines += _set_changes(table, "known", old.known, new.known)
    for name in dict.fromkeys((*old.isolated, *new.isolated)):
        lines += _map_changes(table, name, old.isolated.get(name, {}), new.isolated.get(name, {}))
    gone = sorted(old.chains.keys() - new.chains.keys(), key=lambda name: "-pods-" not in name)
    lines += [f"flush chain {table} {name}" for name in gone]
    lines += [f"delete chain {table} {name}" for name in gone]
    lines += [f"delete set {table} {name}" for name in old.sets if name not in new.sets]
    return "".join(f"{line}\n" for line in lines)


def _set_changes(table: str, name: str, old: Iterable[str], new: Iterable[str]) -> Iterator[str]:
    have, want = set(old), set(new)
    if gone := sorted(have - want):
        yield f"delete element {table} {name} {{ {', '.join(gone)} }}"
    if fresh := sorted(want - have):
        yield f"add element {table} {name} {{ {', '.join(fresh)} }}"


def _map_changes(table: str, name: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    if gone := sorted(key for key, verdict in old.items() if new.get(key) != verdict):
        yield f"delete element {table} {name} {{ {', '.join(gone)} }}"
    if fresh := sorted((key, verdict) for key, verdict in new.items() if old.get(key) != verdict):
        yield f"add element {table} {name} {{ {', '.join(f'{key} : {verdict}' for key, verdict in fresh)} }}"
