"""Who has a host name: who came first, in every process alike."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from typing import Any

import pytest

from kubeedge.api import keys
from kubeedge.api.names import TenantId
from kubeedge.store.memory import MemoryStore
from kubeedge.store.model import Put
from kubeedge_cloud.gateway import claims as claims_file
from kubeedge_cloud.gateway.claims import HostClaims
from kubeedge_cloud.gateway.hostnames import HostClaim, is_free, owners, refusals, tenants_below

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


def test_what_is_free_is_what_a_row_made_now_would_hold() -> None:
    chance = random.Random(17)
    names = [f"{head}{tail}" for head in ("", "*.", "x.", "*.x.", "y.x.") for tail in ("a.test", "b.a.test", "c.test")]
    for _ in range(300):
        rows = [HostClaim(chance.choice(names), TenantId(chance.choice("abc")), n) for n in range(chance.randrange(9))]
        found = owners(rows, chance.choice(("", "a")))
        below = tenants_below(found)
        for name in names:
            would = owners([*rows, HostClaim(name, A, 99)], "").get(name) == A
            assert is_free(name, A, found, below) == would, (rows, name)


def test_names_that_others_have_cost_no_look_at_all_rows_each(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []

    def counted(rows: Any, default: str) -> Any:
        rows = list(rows)
        looks.append(len(rows))
        return owners(rows, default)

    async def exists(tenant: TenantId) -> bool:
        return True

    async def main() -> None:
        store = MemoryStore()
        rows = {f"h{n}.example": json.dumps({"tenant": "a", "since": n}).encode() for n in range(200)}
        await store.txn([], [Put(keys.GATEWAY_HOSTS + name, row) for name, row in rows.items()])
        claims, ready = HostClaims(store, reserved=["cloud.example"], default="", changed=lambda: None), asyncio.Event()
        task = asyncio.create_task(claims.run(ready))
        try:
            await asyncio.wait_for(ready.wait(), 60)
            monkeypatch.setattr(claims_file, "owners", counted)
            await claims.sync(B, {*rows, "*.example", "cloud.example"}, lambda: (), exists)
            assert looks == [] and set(claims.owners.values()) == {A}
            await claims.sync(B, {*rows, "b.test"}, lambda: (), exists)
            assert claims.owners["b.test"] == B and len(claims.refusals(B, {*rows, "b.test"})) == 200
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
