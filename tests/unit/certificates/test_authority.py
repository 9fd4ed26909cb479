"""A cloud process signs with the authority that the nodes of its store trust, or not at all."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kubeedge.api import keys
from kubeedge.api.names import DEFAULT_TENANT
from kubeedge.errors import Invalid
from kubeedge.store.memory import MemoryStore
from kubeedge_cloud.authority.ca import Authority
from kubeedge_cloud.certificates.authority import check_authority, check_directory
from kubeedge_cloud.tenants.manager import TenantManager


async def start(store: MemoryStore, pki: Path, *, replace: bool = False) -> None:
    await check_directory(store, pki, replace=replace)
    await check_authority(store, pki, Authority(pki).hash, replace=replace)


def test_the_first_authority_of_a_store_is_the_only_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        await start(store, tmp_path / "a")
        await start(store, tmp_path / "a")
        with pytest.raises(Invalid, match="is not in") as refused:
            await start(store, tmp_path / "b")
        assert "--new-authority" in refused.value.__notes__[0] and not (tmp_path / "b").exists()
        Authority(tmp_path / "b")
        with pytest.raises(Invalid, match="another certificate authority"):
            await start(store, tmp_path / "b")
        await start(store, tmp_path / "b", replace=True)
        await start(store, tmp_path / "b")
        with pytest.raises(Invalid, match="another certificate authority"):
            await start(store, tmp_path / "a")

    asyncio.run(scenario())


def test_a_store_of_an_earlier_version_with_nodes_needs_its_authority(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        tenants = TenantManager(store)
        await tenants.ensure_tenant(DEFAULT_TENANT)
        await tenants.ensure_node(DEFAULT_TENANT, "edge1")
        for _ in range(2):  # the first refusal must not leave an authority behind that the second one finds
            with pytest.raises(Invalid, match="1 nodes trust no other"):
                await start(store, tmp_path / "a")
        Authority(tmp_path / "a")  # restored
        await start(store, tmp_path / "a")
        assert await store.get(keys.AUTHORITY) is not None

    asyncio.run(scenario())
