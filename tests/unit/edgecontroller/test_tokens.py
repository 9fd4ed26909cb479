"""Service account tokens on their way to a node: issued with the pod, renewed before they end, taken back with pod and account."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from kubeedge.api import service_accounts
from kubeedge.api.names import NodeName, Object
from kubeedge.api.resources import PODS, SERVICEACCOUNTS
from kubeedge.api.service_accounts import KeptTokens, Wanted, decode_kept
from kubeedge.apiserver.registry import Registry
from kubeedge_cloud.authority.token_keys import TokenKey
from tests.unit.controllers.world import TENANT, World, in_world, template

EDGE1 = NodeName("edge1")
API = Wanted("", service_accounts.POD_SECONDS)


def with_tokens(world: World, ahead: float = 0.0) -> Registry:
    """The tenant's API signs tokens; by a clock that is so many seconds ahead of the cloud's."""
    key = TokenKey(ec.generate_private_key(ec.SECP256R1()), TENANT)
    joins = partial(world.tenants.join_of, TENANT)
    wall = lambda: world.wall() + ahead  # noqa: E731
    made = Registry(world.store, TENANT, wall=wall, foreground=True, account_key=key, joins=joins)
    world.registries[TENANT] = made
    return made


def pod(name: str = "p", **spec: Any) -> Object:
    return {"metadata": {"name": name}, "spec": {**template(name)["spec"], "nodeName": EDGE1, **spec}}


async def kept(world: World, name: str = "p") -> KeptTokens | None:
    row = (await world.desired(EDGE1)).get(f"{service_accounts.RESOURCE}/default/{name}")
    return decode_kept(row) if row is not None else None


async def token(world: World, name: str = "p", wanted: Wanted = API) -> str:
    found = await kept(world, name)
    answer = found.of(wanted) if found else None
    return answer.token if answer else ""


async def accepts(world: World, text: str) -> bool:
    review = await world.api().accounts.review({"spec": {"token": text}})  # type: ignore[union-attr]
    return bool(review.get("authenticated"))


@in_world
async def test_a_pod_is_sent_with_its_token(world: World) -> None:
    api = with_tokens(world)
    async with world.cloud():
        await world.join(EDGE1)
        audience = {"serviceAccountToken": {"audience": "vault", "expirationSeconds": 600, "path": "t"}}
        volume = {"name": "v", "projected": {"sources": [audience]}}
        made = await api.create(PODS, "default", pod(volumes=[volume]))
        await world.until(lambda: token(world), "the token", within=1)
        found = await kept(world)
        assert found is not None and found.pod == made["metadata"]["uid"] and found.account == "default"
        assert found.rules == () and len(found.tokens) == 2
        assert await accepts(world, await token(world))
        claims = service_accounts.parts(await token(world, wanted=Wanted("vault", 600))).claims
        assert claims["aud"] == ["vault"] and claims["exp"] - claims["iat"] == 600
        assert service_accounts.bound(claims, "pod") == ("p", made["metadata"]["uid"])
        assert service_accounts.bound(claims, "node")[0] == EDGE1
        # the row with the pod and the row with its token came in one transaction: the node never waits for the second
        rows = {
            kv.key: kv.mod_revision for kv in (await world.store.range(f"/t/{TENANT}/edge/", f"/t/{TENANT}/edge0")).kvs
        }
        prefix = f"/t/{TENANT}/edge/{EDGE1}/desired"
        assert rows[f"{prefix}/pods/default/p"] == rows[f"{prefix}/{service_accounts.RESOURCE}/default/p"]


@in_world
async def test_a_token_is_renewed_before_it_ends_and_the_last_one_is_known_for_a_while(world: World) -> None:
    api = with_tokens(world)
    async with world.cloud():
        agent = await world.join(EDGE1)
        await api.create(PODS, "default", pod())
        first = await world.until(lambda: token(world), "the token", within=1)
        await world.settle(0.79 * 3607)
        assert await token(world) == first
        await agent.detach()  # for a node that is away, too: it has the newest when it comes back
        await world.settle(0.02 * 3607)
        second = await token(world)
        found = await kept(world)
        assert second != first and found is not None and found.tokens[0].previous == first
        assert await accepts(world, first) and await accepts(world, second)
        await world.settle(0.2 * 3607)
        assert not await accepts(world, first) and await accepts(world, second)
    again = await token(world)
    async with world.cloud():  # another process goes on with what was issued
        await world.settle(60)
        assert await token(world) == again
        await world.settle(0.8 * 3607)
        assert await token(world) != again


@pytest.mark.parametrize("ahead", [3 * 3600.0, -3 * 3600.0, 20 * 365 * 86400.0])
def test_a_token_is_renewed_in_time_where_the_api_has_another_clock(ahead: float) -> None:
    """And not all the time: each renewal is one more way to the node, and one more request."""

    @in_world
    async def test(world: World) -> None:
        api = with_tokens(world, ahead)
        async with world.cloud():
            await world.join(EDGE1)
            await api.create(PODS, "default", pod())
            first = await world.until(lambda: token(world), "the token", within=1)
            await world.settle(0.79 * 3607)
            assert await token(world) == first and await accepts(world, first)
            await world.settle(0.02 * 3607)
            second = await token(world)
            assert second != first and await accepts(world, second)

    test()


@in_world
async def test_a_token_is_renewed_when_the_clock_is_set_back_and_not_for_a_correction(world: World) -> None:
    ahead, right = [5 * 3600.0], world.wall
    api = with_tokens(world)
    world.wall = lambda: right() + ahead[0]  # type: ignore[method-assign]
    async with world.cloud():
        await world.join(EDGE1)
        await api.create(PODS, "default", pod())
        first = await world.until(lambda: token(world), "the token", within=1)
        ahead[0] -= 30.0
        await api.merge_patch(PODS, "default", "p", {"metadata": {"labels": {"a": "1"}}})
        await world.settle(5)
        assert await token(world) == first
        ahead[0] = 0.0
        await api.merge_patch(PODS, "default", "p", {"metadata": {"labels": {"a": "2"}}})  # it is looked at
        await world.settle(5)
        assert await token(world) != first


@in_world
async def test_a_token_goes_with_its_pod_and_changes_with_its_account(world: World) -> None:
    api = with_tokens(world)
    async with world.cloud():
        await world.join(EDGE1)
        await api.create(SERVICEACCOUNTS, "default", {"metadata": {"name": "robot"}})
        await api.create(PODS, "default", pod(serviceAccountName="robot"))
        first = await world.until(lambda: token(world), "the token", within=1)
        access = {"metadata": {"annotations": {"kubeedge.io/access": "view"}}}
        await api.merge_patch(SERVICEACCOUNTS, "default", "robot", access)

        async def may_read() -> bool:
            found = await kept(world)
            return found is not None and any("pods" in rule["resources"] for rule in found.rules)

        await world.until(may_read, "the node knows what the account may do", within=1)
        await api.delete(SERVICEACCOUNTS, "default", "robot")
        await world.settle(1)
        assert not await accepts(world, await token(world))  # the pod goes on with what it has
        await api.create(SERVICEACCOUNTS, "default", {"metadata": {"name": "robot"}})

        async def is_good() -> bool:
            return await accepts(world, await token(world))

        await world.until(is_good, "a token of the new account", within=10)
        assert await token(world) != first
        await api.delete(PODS, "default", "p", grace_period=0)

        async def is_gone() -> bool:
            return await kept(world) is None

        await world.until(is_gone, "the row goes", within=1)


@in_world
async def test_another_pod_of_that_name_has_a_token_of_its_own(world: World) -> None:
    api = with_tokens(world)
    async with world.cloud():
        await world.join(EDGE1)
        await api.create(PODS, "default", pod())
        first = await world.until(lambda: token(world), "the token", within=1)
        await api.delete(PODS, "default", "p", grace_period=0)
        made = await api.create(PODS, "default", pod())

        async def is_new() -> bool:
            found = await kept(world)
            return found is not None and found.pod == made["metadata"]["uid"]

        await world.until(is_new, "the new pod's", within=1)
        assert await token(world) != first and not await accepts(world, first)


@in_world
async def test_another_machine_in_the_place_of_a_node_gets_tokens_of_its_own(world: World) -> None:
    api = with_tokens(world)
    async with world.cloud():
        await world.join(EDGE1)
        await api.create(PODS, "default", pod())
        first = await world.until(lambda: token(world), "the token", within=1)
        assert await accepts(world, first)
        compares, ops = await world.tenants.entitle(TENANT, EDGE1, "another")  # kubeedge join --replace
        assert (await world.store.txn(compares, ops)).succeeded
        assert not await accepts(world, first)  # the machine that was replaced has it still

        async def is_new() -> bool:
            return await accepts(world, await token(world))

        await world.until(is_new, "the token of the new machine", within=1)
        found = await kept(world)
        assert found is not None and first not in found.encode().decode()
        await world.tenants.remove_node(TENANT, EDGE1)
        assert not await accepts(world, first)


@in_world
async def test_a_pod_without_an_account_that_exists_is_sent_and_waits(world: World) -> None:
    api = with_tokens(world)
    async with world.cloud():
        await world.join(EDGE1)
        await api.create(SERVICEACCOUNTS, "default", {"metadata": {"name": "robot"}})
        await api.create(PODS, "default", pod(serviceAccountName="robot", nodeName=""))
        await api.delete(SERVICEACCOUNTS, "default", "robot")
        await world.until(lambda: is_sent(world), "the pod", within=5)
        assert await kept(world) is None
        await api.create(SERVICEACCOUNTS, "default", {"metadata": {"name": "robot"}})
        await world.until(lambda: token(world), "the token", within=10)


async def is_sent(world: World) -> bool:
    return "pods/default/p" in await world.desired(EDGE1)


@in_world
async def test_an_api_without_tokens_is_as_it_was(world: World) -> None:
    async with world.cloud():
        await world.join(EDGE1)
        source = {"serviceAccountToken": {"path": "t"}}
        await world.api().create(PODS, "default", pod(volumes=[{"name": "v", "projected": {"sources": [source]}}]))
        await world.until(lambda: is_sent(world), "the pod", within=1)
        assert await kept(world) is None


@in_world
async def test_the_tokens_of_a_pod_do_not_hold_the_loop(world: World) -> None:
    """A pod with 4,900 of them, all different, held it for a minute, and again when it was looked at again."""
    api = with_tokens(world)
    turns, begun = 0, list[int]()
    real = api.create_token

    async def watched(namespace: str, account: str, request: Object) -> Object:
        begun.append(turns)
        return await real(namespace, account, request)

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def asks(seconds: int) -> Object:
        return {"serviceAccountToken": {"expirationSeconds": 600 + seconds, "path": f"t{seconds}"}}

    api.create_token = watched  # type: ignore[method-assign]
    many = service_accounts.MAX_POD_TOKENS  # and the one that admission adds
    async with world.cloud():
        await world.join(EDGE1)
        async with asyncio.TaskGroup() as group:
            spinning = group.create_task(other())
            for name in ("one", "two"):
                volume = {"name": "v", "projected": {"sources": [asks(n) for n in range(many)]}}
                await api.create(PODS, "default", pod(name, volumes=[volume]))
            while len(begun) < 2 * (many + 1):
                await asyncio.sleep(0)
            spinning.cancel()
        assert len(set(begun)) == len(begun)
        await world.settle()
        patch = {"metadata": {"labels": {"a": "b"}}}
        await api.merge_patch(PODS, "default", "one", patch)
        assert [len(found.tokens) for name in ("one", "two") if (found := await kept(world, name))] == [many + 1] * 2


def test_more_tokens_than_a_pod_may_have_are_not_asked_for() -> None:
    """A cluster of the tenant's own knows no such bound."""
    sources = [{"serviceAccountToken": {"expirationSeconds": 600 + n, "path": f"t{n}"}} for n in range(4900)]
    volume = {"name": "v", "projected": {"sources": sources}}
    found = list(service_accounts.wanted_by({"spec": {"volumes": [volume]}}))
    assert len(found) == service_accounts.MAX_POD_TOKENS + 1 and found[0].seconds == 600
