"""What nodes judge tokens by while they are offline: keys of the issuer and rules of accounts, asked for as seldom as possible, on virtual time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from kubeedge.api import service_accounts
from kubeedge.api.names import NodeName, Object
from kubeedge.api.resources import PODS, SERVICEACCOUNTS
from kubeedge.api.status import Forbidden, ServerUnavailable
from kubeedge.apiserver.registry import Registry
from kubeedge_cloud.authority.token_keys import TokenKey
from kubeedge_cloud.edgecontroller import token_issuer
from tests.unit.controllers.world import TENANT, template
from tests.unit.edgecontroller.test_cluster import EDGE1, EDGE2, ClusterWorld, in_cluster

ROLE = [{"verbs": ["list"], "apiGroups": [""], "resources": ["pods"]}]


class Signing:
    """The cluster signs tokens, and says what is asked of it."""

    def __init__(self, world: ClusterWorld) -> None:
        self.world = world
        self.rules: Sequence[Mapping[str, Any]] = ROLE
        self.asked: list[tuple[str, str]] = []
        self.keys_asked = 0
        self.problem: Exception | None = None
        self.rotate()
        inner = world.cluster.registry
        inner.account_rules = self.account_rules  # type: ignore[method-assign]
        inner.issuer_keys = self.issuer_keys  # type: ignore[method-assign]

    def rotate(self) -> None:
        self.key = TokenKey(ec.generate_private_key(ec.SECP256R1()), TENANT)
        store = self.world.store
        signing = Registry(store, TENANT, wall=self.world.wall, foreground=True, account_key=self.key)
        self.world.cluster.registry.create_token = signing.create_token  # type: ignore[method-assign]

    async def account_rules(self, namespace: str, account: str) -> Sequence[Mapping[str, Any]]:
        self.asked.append((namespace, account))
        if self.problem is not None:
            raise self.problem
        return self.rules

    async def issuer_keys(self) -> Sequence[Object]:
        self.keys_asked += 1
        if self.problem is not None:
            raise self.problem
        return [self.key.jwk()]

    async def pod(self, name: str, node: str, account: str = "robot") -> None:
        spec = {**template(name)["spec"], "nodeName": node, "serviceAccountName": account}
        source = {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}}
        spec["volumes"] = [{"name": "token", "projected": {"sources": [source]}}]
        await self.world.cluster.registry.create(PODS, "default", {"metadata": {"name": name}, "spec": spec})


async def rules(world: ClusterWorld, node: NodeName, pod: str) -> Any:
    row = (await world.desired(node)).get(f"{service_accounts.RESOURCE}/default/{pod}")
    return None if row is None else row["rules"]


async def ids(world: ClusterWorld, node: NodeName) -> list[str]:
    row = (await world.desired(node)).get(token_issuer.ROW)
    return [] if row is None else [key.id for key in service_accounts.decode_keys(json.dumps(row).encode())]


@in_cluster
async def test_rules_are_asked_for_once_an_account_and_a_change_is_at_the_nodes_in_minutes(world: ClusterWorld) -> None:
    signing = Signing(world)
    await _account(world, "robot")
    async with world.cloud():
        for node in (EDGE1, EDGE2):
            await world.join(node)
        await world.settle(2)
        for number in range(3):
            await signing.pod(f"a{number}", EDGE1)
            await world.settle(2)
        await signing.pod("b", EDGE2)
        await world.settle(5)
        assert await rules(world, EDGE1, "a0") == await rules(world, EDGE2, "b") == ROLE
        assert signing.asked == [("default", "robot")]
        token = (await world.desired(EDGE2))[f"{service_accounts.RESOURCE}/default/b"]["tokens"]
        signing.rules = []
        await world.settle(340)
        assert await rules(world, EDGE1, "a2") == await rules(world, EDGE2, "b") == []
        assert (await world.desired(EDGE2))[f"{service_accounts.RESOURCE}/default/b"]["tokens"] == token  # the same one
        assert len(signing.asked) == 2
        signing.problem = ServerUnavailable("away for an hour")
        await world.settle(1000)
        assert await rules(world, EDGE2, "b") == []
        for name in ("a0", "a1", "a2", "b"):
            await world.cluster.registry.delete(PODS, "default", name, grace_period=0)
        signing.problem = None
        await world.settle(700)
        before = len(signing.asked)
        await world.settle(700)
        assert len(signing.asked) == before  # nobody uses it


@in_cluster
async def test_nodes_with_tokens_have_the_issuers_keys_and_those_that_are_rotated_in(world: ClusterWorld) -> None:
    signing = Signing(world)
    await _account(world, "robot")
    async with world.cloud():
        for node in (EDGE1, EDGE2):
            await world.join(node)
        await world.settle(700)
        assert signing.keys_asked == 0  # nobody needs them
        await signing.pod("a", EDGE1)
        await world.settle(5)
        assert await ids(world, EDGE1) == [signing.key.id] and await ids(world, EDGE2) == []
        first = signing.key.id
        signing.rotate()
        await world.settle(340)
        assert await ids(world, EDGE1) == [signing.key.id] != [first]
        for problem in (ServerUnavailable("away"), Forbidden("not for you")):
            signing.problem = problem
            await world.settle(900)
            assert await ids(world, EDGE1) == [signing.key.id]  # what is known stays
        assert signing.keys_asked < 60


async def _account(world: ClusterWorld, name: str) -> None:
    await world.tenants.ensure_tenant(TENANT)
    await world.cluster.registry.create(SERVICEACCOUNTS, "default", {"metadata": {"name": name}})
