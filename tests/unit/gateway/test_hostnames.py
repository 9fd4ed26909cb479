"""Who has a host name: who came first, in every process alike."""

from __future__ import annotations

import itertools

from kubeedge.api.names import TenantId
from kubeedge_cloud.gateway.hostnames import HostClaim, owners, refusals

A, B = TenantId("a"), TenantId("b")


def test_the_first_has_a_name_and_all_that_overlaps_with_it() -> None:
    claims = [
        HostClaim("shop.example", A, 1),
        HostClaim("*.example", B, 2),
        HostClaim("*.test", B, 3),
        HostClaim("x.test", A, 4),
        HostClaim("y.test", B, 5),
        HostClaim("other.example", B, 6),
    ]
    for order in itertools.permutations(claims):
        assert owners(order, "") == {"shop.example": A, "*.test": B, "y.test": B, "other.example": B}


def test_a_wildcard_of_the_same_tenant_may_be_above_its_names() -> None:
    assert owners([HostClaim("x.example", A, 1), HostClaim("*.example", A, 2)], "") == {"x.example": A, "*.example": A}


def test_why_a_name_is_refused() -> None:
    found = owners([HostClaim("theirs.example", B, 1), HostClaim("ours.example", A, 2)], "a")
    reserved = {"cloud.example", "203.0.113.1"}
    wanted = ["ours.example", "theirs.example", "*.example", "cloud.example", "*"]
    refused = refusals(wanted, A, found, reserved, "a")
    assert set(refused) == {"theirs.example", "*.example", "cloud.example"}
    assert "cloud's own name" in refused["*.example"] and "another tenant" in refused["theirs.example"]
    assert "defaultTenant" in refusals(["*"], B, found, reserved, "a")["*"]
