"""A cluster that refuses the status of one object."""

from __future__ import annotations

from typing import Any

import pytest

from kubeedge.api import gateway as kinds
from kubeedge.errors import Invalid
from kubeedge_cloud.controllers.informer.client import CachedClient
from tests.unit.controllers.world import World, in_world
from tests.unit.gateway.objects import CLASS, conditions, gateway, route
from tests.unit.gateway.test_driver import apply, cloud, service


@in_world
async def test_others_get_theirs(world: World) -> None:
    patched = CachedClient.merge_patch

    async def refusing(self: CachedClient, resource: Any, *of: Any, **more: Any) -> Any:
        if resource == kinds.GATEWAYS:
            raise Invalid("status.addresses: Too many: 31: must have at most 16 items")
        return await patched(self, resource, *of, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CachedClient, "merge_patch", refusing)
        async with cloud(world):
            await service(world)
            await apply(world, CLASS, gateway(), route(hostnames=["shop.example"]))
            await world.settle()
            assert not (await world.get(kinds.GATEWAYS, "edge")).get("status")
            [parent] = (await world.get(kinds.HTTPROUTES, "shop"))["status"]["parents"]
            assert conditions(parent)["Accepted"] == "Accepted"
