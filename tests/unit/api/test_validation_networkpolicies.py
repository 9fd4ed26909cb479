"""NetworkPolicies that make no sense, or would cost too much, are refused with the field that is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from kubeedge.api import defaults
from kubeedge.api.findings import collect
from kubeedge.api.names import Object
from kubeedge.api.validation_networkpolicies import networkpolicy

POD = {"podSelector": {"matchLabels": {"a": "b"}}}


def block(cidr: Any, *parts: Any) -> Object:
    return {"ipBlock": {"cidr": cidr, "except": list(parts)}}


def errors(spec: Object) -> list[str]:
    return [str(error) for error in collect(lambda: networkpolicy({"spec": spec}))]


def test_defaults_are_those_of_kubernetes() -> None:
    made: Object = {"spec": {"egress": [{"ports": [{"port": 1}, {"port": 2, "protocol": "UDP"}]}]}}
    defaults.networkpolicy(made)
    assert made["spec"]["policyTypes"] == ["Ingress", "Egress"] and made["spec"]["podSelector"] == {}
    assert [port["protocol"] for port in made["spec"]["egress"][0]["ports"]] == ["TCP", "UDP"]
    made = {"spec": {"policyTypes": ["Egress"]}}
    defaults.networkpolicy(made)
    assert made["spec"]["policyTypes"] == ["Egress"]


def test_what_kubernetes_takes_is_taken() -> None:
    peers = [
        POD,
        {"namespaceSelector": {}},
        {**POD, "namespaceSelector": {}},
        block("10.0.0.0/8", "10.1.0.0/16"),
        block("fd00::/8"),
    ]
    ports: list[Object] = [{}, {"port": "http"}, {"port": 80, "endPort": 80, "protocol": "SCTP"}]
    rules = {"ingress": [{}, {"from": peers, "ports": ports}], "egress": [{"to": peers}]}
    assert errors({"podSelector": {}, "policyTypes": ["Ingress", "Egress"], **rules}) == []


@pytest.mark.parametrize(
    ("spec", "where"),
    [
        ({"podSelector": {"matchExpressions": [{"key": "a", "operator": "Is"}]}}, "spec.podSelector"),
        ({"policyTypes": ["Both"]}, "spec.policyTypes[0]"),
        ({"policyTypes": ["Ingress"] * 3}, "spec.policyTypes"),
        ({"ingress": [{}] * 101}, "spec.ingress"),
        ({"ingress": [{"from": [POD] * 101}]}, "spec.ingress[0].from"),
        ({"ingress": [{"from": [POD] * 65}] * 2, "egress": [{"to": [POD] * 64}] * 2}, "spec"),
        ({"egress": [{"ports": [{}] * 101}]}, "spec.egress[0].ports"),
        ({"egress": [{"to": [{}]}]}, "spec.egress[0].to[0]"),
        ({"egress": [{"to": [POD | block("10.0.0.0/8")]}]}, "spec.egress[0].to[0]"),
        ({"egress": [{"to": [block("10.0.0.0")]}]}, "spec.egress[0].to[0].ipBlock.cidr"),
        ({"egress": [{"to": [block("fd00::%x }\nflush ruleset\n#/64")]}]}, "spec.egress[0].to[0].ipBlock.cidr"),
        ({"egress": [{"to": [block("fd00::/8", "fd00:1::%x/64")]}]}, "spec.egress[0].to[0].ipBlock.except[0]"),
        ({"egress": [{"to": [block("10.0.0.0/8", "10.0.0.0/8")]}]}, "spec.egress[0].to[0].ipBlock.except[0]"),
        ({"egress": [{"to": [block("10.0.0.0/8", "11.0.0.0/16")]}]}, "spec.egress[0].to[0].ipBlock.except[0]"),
        ({"egress": [{"to": [block("10.0.0.0/8", "fd00::/16")]}]}, "spec.egress[0].to[0].ipBlock.except[0]"),
        ({"ingress": [{"ports": [{"protocol": "ICMP"}]}]}, "spec.ingress[0].ports[0].protocol"),
        ({"ingress": [{"ports": [{"port": 0}]}]}, "spec.ingress[0].ports[0].port"),
        ({"ingress": [{"ports": [{"port": "no_name"}]}]}, "spec.ingress[0].ports[0].port"),
        ({"ingress": [{"ports": [{"endPort": 80}]}]}, "spec.ingress[0].ports[0].endPort"),
        ({"ingress": [{"ports": [{"port": "http", "endPort": 80}]}]}, "spec.ingress[0].ports[0].endPort"),
        ({"ingress": [{"ports": [{"port": 80, "endPort": 79}]}]}, "spec.ingress[0].ports[0].endPort"),
        ({"ingress": [{"ports": [{"port": 80, "endPort": 70000}]}]}, "spec.ingress[0].ports[0].endPort"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(spec: Object, where: str) -> None:
    found = errors(spec)
    assert len(found) == 1 and found[0].startswith(f"{where}: "), found
