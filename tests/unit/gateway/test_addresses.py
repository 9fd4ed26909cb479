"""Which Gateway gets which address."""

from __future__ import annotations

from typing import Any

import pytest

from kubeedge.api.names import Object
from kubeedge_cloud.gateway.addresses import AddressAssignment, assign
from kubeedge_cloud.gateway.features import supported
from kubeedge_cloud.gateway.ports import GatewayPorts
from tests.unit.gateway.objects import compiled, conditions, gateway, listener

POOL = ("203.0.113.10", "203.0.113.11", "203.0.113.12")
A, B, C = POOL


def asking(name: str, *wanted: Object, has: str = "") -> Object:
    found = gateway(name=name)
    if wanted:
        found["spec"]["addresses"] = list(wanted)
    if has:
        found["status"] = {"addresses": [{"type": "IPAddress", "value": has}]}
    return found


def assigned(*gateways: Object, limit: int = 8, occupied: tuple[str, ...] = ()) -> dict[str, AddressAssignment]:
    return {name: found for (_, name), found in assign(gateways, POOL, limit, occupied).items()}


def test_each_has_the_first_that_is_free() -> None:
    found = assigned(asking("a"), asking("b"), asking("c"), asking("d"))
    assert [found[name].address for name in "abcd"] == [A, B, C, ""]


def test_a_gateway_keeps_what_it_has_though_an_older_one_comes_later_to_the_cloud() -> None:
    found = assigned(asking("a"), asking("b", has=A))
    assert (found["a"].address, found["b"].address) == (B, A)


def test_what_others_have_is_nobody_elses() -> None:
    found = assigned(asking("a", has=A), asking("b", {"value": A}), occupied=(A,))
    assert found["a"].address == B and found["b"].unusable and not found["b"].address


def test_a_tenant_has_so_many() -> None:
    found = assigned(asking("a"), asking("b"), asking("c", {"value": C}), limit=1)
    assert found["c"].address == C and not found["a"].address and not found["b"].address


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ([{"type": "NamedAddress", "value": "lb"}], "unsupported"),
        ([{"value": "192.0.2.1"}], "unusable"),
        ([{"value": A}, {"value": B}], "unusable"),
    ],
)
def test_what_cannot_be_had_is_said(wanted: list[Object], field: str) -> None:
    found = assigned(asking("a", *wanted))["a"]
    assert getattr(found, field) and not found.address


@pytest.mark.parametrize("odd", ["text", [1, None], {"value": A}, [{}], [{"value": None}]])
def test_odd_fields_are_no_address(odd: Any) -> None:
    found = gateway()
    found["spec"]["addresses"] = odd
    assert assign([found], POOL, 8)["default", "edge"].address == A


def test_the_status_of_one_that_cannot_be_had() -> None:
    where = GatewayPorts(addresses=POOL, per_tenant=8)
    found = compiled(asking("edge", {"value": "192.0.2.1"}), ports=where)
    status = found.statuses["gateways"]["default", "edge"]
    assert conditions(status) == {"Accepted": "Accepted", "Programmed": "!AddressNotUsable"}
    assert status["addresses"] == [] and not found.routes.points


def test_ports_of_a_tenant_have_a_bound() -> None:
    where = GatewayPorts(addresses=POOL, per_tenant=8)
    listeners = [listener(f"l{n}", port=1000 + n) for n in range(40)]
    found = compiled(gateway(*listeners), ports=where)
    status = found.statuses["gateways"]["default", "edge"]
    assert len(found.routes.points) == 32
    assert [conditions(s)["Accepted"] for s in status["listeners"]].count("!PortUnavailable") == 8


def test_features_are_those_that_the_ports_allow() -> None:
    plain = supported(GatewayPorts(http=frozenset((80,))))
    assert "HTTPRoute" in plain and "TCPRoute" not in plain and list(plain) == sorted(plain)
    assert "TCPRoute" in supported(GatewayPorts(shared={5432: "TCP"}))
    assert "TLSRoute" in supported(GatewayPorts(shared={443: "TLS"}))
    assert {"TLSRoute", "TCPRoute", "GatewayStaticAddresses"} <= set(supported(GatewayPorts(addresses=POOL)))
