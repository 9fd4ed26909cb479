"""What a node makes of NetworkPolicies: rules that lead from one state to the next, and rows of any shape."""

from __future__ import annotations

import ipaddress
import json
import random
import re
from typing import Any

from kubeedge.mesh.network_policy import policy_of
from kubeedge.mesh.packet_filter import FilterRules, changes, filter_rules, header
from kubeedge.mesh.table import MeshTable


class Kernel:
    """Takes the commands as nftables does: what is used must be there, and what is in use cannot be deleted."""

    def __init__(self) -> None:
        self.chains: dict[str, list[str]] = {}
        self.sets: dict[str, set[str]] = {"itself": set(), "known": set()}
        self.maps: dict[str, dict[str, str]] = {"isolated-in": {}, "isolated-out": {}}

    def apply(self, commands: str) -> None:
        for line in commands.splitlines():
            match = re.fullmatch(r"(add|flush|delete) (set|chain|rule|element) ip kubeedge-policy (\S+) ?(.*)", line)
            assert match, line
            getattr(self, f"{match[1]}_{match[2]}")(match[3], match[4])
        for rules in self.chains.values():
            for rule in rules:
                self._check(rule)
        for elements in self.maps.values():
            assert all(verdict.removeprefix("goto ") in self.chains for verdict in elements.values())

    def _check(self, rule: str) -> None:
        assert all(name in self.sets for name in re.findall(r"@(\S+)", rule)), rule
        assert all(name in self.chains for name in re.findall(r"jump (\S+)", rule)), rule

    def add_set(self, name: str, rest: str) -> None:
        assert name not in self.sets
        self.sets[name] = set()

    def delete_set(self, name: str, rest: str) -> None:
        assert not any(f"@{name}" in rule for rules in self.chains.values() for rule in rules)
        del self.sets[name]

    def add_chain(self, name: str, rest: str) -> None:
        assert name not in self.chains
        self.chains[name] = []

    def flush_chain(self, name: str, rest: str) -> None:
        self.chains[name].clear()

    def delete_chain(self, name: str, rest: str) -> None:
        assert not any(f"jump {name}" in rule for rules in self.chains.values() for rule in rules)
        assert not any(name in verdict for elements in self.maps.values() for verdict in elements.values())
        del self.chains[name]

    def add_rule(self, name: str, rest: str) -> None:
        self._check(rest)
        self.chains[name].append(rest)

    def add_element(self, name: str, rest: str) -> None:
        for element in rest.strip("{} ").split(", "):
            if name in self.maps:
                key, _, verdict = element.partition(" : ")
                assert key not in self.maps[name]
                self.maps[name][key] = verdict
            else:
                assert element not in self.sets[name]
                self.sets[name].add(element)

    def delete_element(self, name: str, rest: str) -> None:
        for element in rest.strip("{} ").split(", "):
            if name in self.maps:
                del self.maps[name][element]
            else:
                self.sets[name].remove(element)


def put(table: MeshTable, key: str, value: Any) -> None:
    table.apply(key, None if value is None else json.dumps(value).encode())


def pod(table: MeshTable, name: str, address: str, **labels: str) -> None:
    ports = [{"name": "http", "containerPort": 8080}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}]
    spec = {"containers": [{"name": "c", "ports": ports}]}
    put(table, f"/desired/pods/d/{name}", {"metadata": {"uid": name, "labels": labels}, "spec": spec})
    put(table, f"/reported/pods/d/{name}", {"uid": name, "status": {"podIP": address, "phase": "Running"}})


def policy(selector: dict[str, str], *kinds: str, ingress: Any = (), egress: Any = ()) -> dict[str, Any]:
    spec = {"podSelector": {"matchLabels": selector}, "policyTypes": list(kinds)}
    return {"spec": {**spec, "ingress": list(ingress), "egress": list(egress)}}


def rules_of(table: MeshTable, version: int = 4) -> FilterRules:
    return filter_rules(table.policies.values(), list(table.pods()), "edge1", version, table.addresses())


def lines(table: MeshTable, short: str) -> set[str]:
    return {re.sub("-[0-9a-f]{16}", "", rule) for name, rules in rules_of(table).chains.items() for rule in rules
            if name.startswith(f"{short}-policy-")}  # fmt: skip


ROW_POD = ["10.244.2.2", "edge2", {"http/TCP": 81}]
STALE = ["10.244.1.99", "edge1", {"http/TCP": 82}]


def test_own_pods_count_as_they_are_and_others_as_the_cloud_saw_them() -> None:
    table = MeshTable("edge1")
    pod(table, "a", "10.244.1.2", app="web")
    pod(table, "b", "10.244.1.3", app="client")
    selectors = [{"namespaces": ["d"], "podSelector": {"matchLabels": {"app": "client"}}}]
    rule = {"ports": [{"port": "http"}, {"port": 90}], "selectors": selectors, "pods": [ROW_POD, STALE]}
    put(table, "/desired/networkpolicies/d/p", policy({"app": "web"}, "Ingress", ingress=[rule]))
    found = rules_of(table)
    assert found.isolated == {"isolated-in": {"10.244.1.2": next(iter(found.isolated["isolated-in"].values()))}}
    sets = {name.rpartition("-")[0]: elements for name, (_, elements) in found.sets.items()}
    assert sets == {"peers": {"10.244.1.3", "10.244.2.2"}, "ports": {"10.244.1.2 . tcp . 8080"}}
    assert lines(table, "in") == {
        "ip saddr @peers meta l4proto tcp th dport { 90 } accept",
        "ip saddr @peers ip daddr . meta l4proto . th dport @ports accept",
    }
    # of egress a port by name is the receiver's
    put(table, "/desired/networkpolicies/d/p", policy({"app": "web"}, "Egress", egress=[rule]))
    sets = {name.rpartition("-")[0]: elements for name, (_, elements) in rules_of(table).sets.items()}
    assert sets["ports"] == {"10.244.1.3 . tcp . 8080", "10.244.2.2 . tcp . 81"}


def test_networks_and_ranges_of_ports_do_not_overlap() -> None:
    table = MeshTable("edge1")
    pod(table, "a", "10.244.1.2", app="web")
    blocks = [
        {"cidr": "10.0.0.0/8"}, {"cidr": "10.1.0.0/16"}, {"cidr": "fd00::/8"},
        {"cidr": "0.0.0.0/0", "except": ["192.168.0.0/16", "192.168.1.0/24"]},
        {"cidr": "172.16.0.0/12", "except": ["172.16.0.0/16", "no network"]},
    ]  # fmt: skip
    ports = [{"port": 80}, {"port": 70, "endPort": 81}, {"port": 82}, {"protocol": "UDP"}, {"port": 7, "endPort": 3}]
    put(table, "/desired/networkpolicies/d/p", policy({}, "Ingress", ingress=[{"blocks": blocks, "ports": ports}]))
    assert lines(table, "in") == {
        "ip saddr { 10.0.0.0/8 } meta l4proto tcp th dport { 70-82 } accept",
        "ip saddr { 10.0.0.0/8 } meta l4proto udp accept",
        "ip saddr != { 192.168.0.0/16 } meta l4proto tcp th dport { 70-82 } accept",
        "ip saddr != { 192.168.0.0/16 } meta l4proto udp accept",
    }
    assert not rules_of(table, 6).chains


def test_what_names_nothing_allows_everything_and_what_cannot_be_read_allows_nothing() -> None:
    table = MeshTable("edge1")
    pod(table, "a", "10.244.1.2")
    put(table, "/desired/networkpolicies/d/p", policy({}, "Ingress", ingress=[{"all": True}]))
    assert lines(table, "in") == {"accept"}
    bad: list[Any] = [
        {}, {"all": "yes"}, {"all": True, "ports": [1]}, {"all": True, "ports": [{"protocol": "ICMP"}]},
        {"pods": [ROW_POD], "blocks": [None, {"cidr": 1}]}, {"selectors": [{"namespaces": "*", "podSelector": 1}]},
    ]  # fmt: skip
    for rule in bad:
        put(table, "/desired/networkpolicies/d/p", policy({}, "Ingress", ingress=[rule]))
        assert lines(table, "in") == set(), rule
        assert rules_of(table).isolated["isolated-in"]
    put(table, "/desired/networkpolicies/d/p", policy({"a": "b"}, "Ingress") | {"spec": {"podSelector": 1}})
    assert table.refused_policies["d/p"].startswith("it isolates all pods of its namespace: ")
    put(table, "/desired/networkpolicies/d/p", None)
    assert not table.refused_policies


def test_pods_in_the_network_of_the_node_are_not_isolated() -> None:
    table = MeshTable("edge1")
    pod(table, "a", "10.244.1.2")
    put(table, "/desired/networkpolicies/d/p", policy({}, "Ingress", "Egress"))
    put(table, "/desired/networkpolicies/other/p", policy({}, "Ingress"))
    assert set(rules_of(table).isolated) == {"isolated-in", "isolated-out"}
    put(table, "/desired/pods/d/a", {"metadata": {"uid": "a"}, "spec": {"hostNetwork": True}})
    assert rules_of(table) == FilterRules(known={"10.244.1.2"})


def test_a_policy_whose_pods_cannot_be_read_isolates_its_namespace() -> None:
    table = MeshTable("edge1")
    pod(table, "a", "10.244.1.2", app="x")
    put(table, "/desired/pods/other/b", {"metadata": {"uid": "b"}, "spec": {}})
    put(table, "/reported/pods/other/b", {"uid": "b", "status": {"podIP": "10.244.1.3", "phase": "Running"}})
    bad = {"matchExpressions": [{"key": "app", "operator": "Like", "values": ["y"]}]}
    row = policy({}, "Ingress", ingress=[{"all": True, "ports": [{"port": 80}]}])
    put(table, "/desired/networkpolicies/d/p", {"spec": {**row["spec"], "podSelector": bad}})
    found = rules_of(table)
    assert list(found.isolated["isolated-in"]) == ["10.244.1.2"], "the pods of other namespaces are not its affair"
    assert lines(table, "in") == {"meta l4proto tcp th dport { 80 } accept"}, "what it allows is allowed"
    assert "Like" in table.refused_policies["d/p"], "and the node says so"


def test_a_pod_is_known_from_its_report_on_and_until_it_has_ended() -> None:
    table, kernel = MeshTable("edge1"), Kernel()

    def known() -> set[str]:
        return rules_of(table).known

    put(table, "/desired/networkpolicies/d/p", policy({"app": "none"}, "Ingress"))
    put(table, "/desired/pods/d/a", {"metadata": {"uid": "a"}, "spec": {}})
    assert known() == set()
    put(table, "/reported/pods/d/a", {"uid": "a", "status": {"podIP": "10.244.1.2", "phase": "Pending"}})
    put(table, "/reported/pods/d/static", {"uid": "s", "status": {"podIP": "10.244.1.3", "phase": "Running"}})
    assert known() == {"10.244.1.2", "10.244.1.3"}, "static pods are known by what is reported alone"
    kernel.apply(changes(FilterRules(), rules_of(table), 4))
    assert kernel.sets["known"] == known()
    put(table, "/reported/pods/d/static", {"uid": "s", "status": {"podIP": "10.244.1.3", "phase": "Failed"}})
    put(table, "/desired/pods/d/a", {"metadata": {"uid": "again"}, "spec": {}})
    assert known() == set(), "another pod may have these addresses next"
    assert header(4).count("@known") == 0
    made = header(4, "", [ipaddress.ip_network("10.244.1.0/24"), ipaddress.ip_network("fd00::/64")])
    assert "ip saddr { 10.244.1.0/24 } ip saddr != @known drop" in made
    assert "ip daddr { 10.244.1.0/24 } ip daddr != @known drop" in made


def test_each_change_leads_to_the_rules_that_are_wanted() -> None:
    chance = random.Random(15)
    table, kernel, old = MeshTable("edge1"), Kernel(), FilterRules()
    assert "isolated-in" in header(4) and "iifname" not in header(4) and 'oifname "cni0" drop' in header(6, "cni0")
    for _ in range(400):
        name, number = f"p{chance.randrange(6)}", chance.randrange(8)
        labels = {"app": chance.choice("xy")}
        match chance.randrange(4):
            case 0:
                pod(table, name, f"10.244.1.{number + 2}", **labels)
            case 1:
                put(table, f"/desired/pods/d/{name}", None)
            case 2:
                put(table, f"/desired/networkpolicies/d/{name}", None)
            case 3:
                ports = chance.sample([{"port": 80}, {"port": "http"}, {"port": "dns", "protocol": "UDP"}], 2)
                rules = [
                    {
                        "ports": ports if chance.random() < 0.8 else [],
                        "selectors": [
                            {"namespaces": "*", "podSelector": {"matchLabels": {"app": chance.choice("xy")}}}
                        ],
                        "pods": [[f"10.244.2.{chance.randrange(9)}", "edge2", {"http/TCP": 80}] for _ in range(3)],
                        "blocks": [{"cidr": f"10.{number}.0.0/16"}] if chance.random() < 0.5 else [],
                        "all": chance.random() < 0.2,
                    }
                    for _ in range(chance.randrange(3))
                ]
                kinds = chance.sample(["Ingress", "Egress"], chance.randrange(3))
                value = policy(labels if number % 2 else {}, *kinds, ingress=rules, egress=rules)
                put(table, f"/desired/networkpolicies/d/{name}", value)
        new = rules_of(table)
        kernel.apply(changes(old, new, 4))
        assert {name: tuple(rules) for name, rules in kernel.chains.items()} == new.chains
        assert {name: frozenset(e) for name, e in kernel.sets.items() if name not in ("itself", "known")} == {
            name: elements for name, (_, elements) in new.sets.items()
        }
        assert kernel.sets["itself"] == new.itself and kernel.sets["known"] == new.known
        assert {name: e for name, e in kernel.maps.items() if e} == new.isolated
        assert changes(new, rules_of(table), 4) == ""
        old = new
    kernel.apply(changes(old, FilterRules(), 4))
    assert not kernel.chains and kernel.sets == {"itself": set(), "known": set()}


def test_any_row_is_read_or_refused() -> None:
    chance = random.Random(16)
    junk = [None, 1, "", "*", [], {}, [None], [[]], [{}], {"cidr": "x"}, [["a", 1, 2]], "10.0.0.0/8", 2**70, True]
    for _ in range(2000):
        rule = {key: chance.choice(junk) for key in ("ports", "all", "blocks", "selectors", "pods", "left_out")}
        spec = {
            "podSelector": {},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [rule],
            "egress": chance.choice(junk),
        }
        found = policy_of("d", "p", {"spec": spec})
        table = MeshTable("edge1")
        pod(table, "a", "10.244.1.2")
        Kernel().apply(changes(FilterRules(), filter_rules([found], list(table.pods()), "edge1", 4), 4))
    assert ipaddress.ip_address("10.244.1.2") in {pod.address for pod in table.pods()}


#: what `ipaddress` takes for the zone of an address
ZONE = "%x } accept\nflush ruleset\n#"


def test_the_zone_of_an_address_never_becomes_a_command() -> None:
    table = MeshTable("edge1")
    pod(table, "a", "10.244.1.2")
    pod(table, "b", "fd00:244::2")
    pod(table, "c", "fd00:244::3" + ZONE)
    rule = {
        "blocks": [{"cidr": f"2001:db8::{ZONE}/64"}, {"cidr": "fd00::/8", "except": [f"fd00:1::{ZONE}/64"]}],
        "selectors": [{"namespaces": "*", "podSelector": {}}],
        "pods": [["2001:db8::1" + ZONE, "edge2", {"http/TCP": 80}], [1, "edge2", {}]],
        "ports": [{"port": 80}, {"port": "http"}, {"port": True}],
    }
    rules = [rule, {**rule, "ports": [{"port": True}]}]
    put(table, "/desired/networkpolicies/d/p", policy({}, "Ingress", "Egress", ingress=rules, egress=rules))
    for version in (4, 6):
        commands = changes(FilterRules(), rules_of(table, version), version)
        assert "isolated-in" in commands and "%" not in commands and "True" not in commands
        assert all(line.split(" ", 1)[0] in ("add", "flush", "delete") for line in commands.splitlines())
        assert "flush ruleset" not in commands


def test_pods_do_not_reach_each_other_by_addresses_that_policies_do_not_know() -> None:
    """Without addresses of IPv6 nothing of it passes over the bridge; with them their neighbours are found, and nothing else of the link."""
    four, six = ipaddress.ip_network("10.244.1.0/24"), ipaddress.ip_network("fd00:10:244:1::/64")
    alone, both = header(6, "cni0", [four]), header(6, "cni0", [four, six])
    assert 'iifname "cni0" oifname "cni0" drop' in alone and "fe80" not in alone
    assert 'iifname "cni0" oifname "cni0" drop' not in both
    chain = both[both.index("chain neighbours") : both.index("chain egress")]
    assert chain.index("nd-neighbor-solicit") < chain.index("ip6 saddr fe80::/10 drop")
    assert "ip6 daddr { fe80::/10, ff00::/8 } drop" in chain
    assert "ip6 daddr { fd00:10:244:1::/64 } ip6 daddr != @known drop" in both


def test_what_a_pod_sends_with_the_address_of_no_pod_does_not_pass() -> None:
    """IPV6_FREEBIND lets any process have any source: of a pod elsewhere, which a policy allows, or of nobody, whom no policy isolates."""
    six = header(6, "cni0", [ipaddress.ip_network("fd00:10:244:1::/64")])
    chain = six[six.index("chain egress") : six.index("chain ingress")]
    rule = 'iifname "cni0" ip6 saddr != @known drop'
    assert chain.index("nd-neighbor-solicit") < chain.index(rule) < chain.index("vmap @isolated-out")
    assert "cni0" not in header(4, "", [ipaddress.ip_network("10.244.1.0/24")])
