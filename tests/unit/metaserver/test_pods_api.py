"""Pods and the Kubernetes API: through their node to the cloud, and from the node alone; real HTTP between the two, real tokens."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from kubeedge.api import keys, service_accounts
from kubeedge.api.names import L4Port, NodeName, Object, TenantId, TenantNumber
from kubeedge.api.resources import CONFIGMAPS, PODS, SECRETS, SERVICEACCOUNTS
from kubeedge.api.service_accounts import IssuedToken, KeptTokens
from kubeedge.apiserver.registry import Registry
from kubeedge.apiserver.server import ApiServer
from kubeedge.errors import Unavailable
from kubeedge.kit.http1 import Request, Response
from kubeedge.metaserver.accounts import NodeAccounts
from kubeedge.metaserver.gateway import Gateway
from kubeedge.metaserver.pods import PodsApi
from kubeedge.metaserver.view import RegistryView
from kubeedge.store.memory import MemoryStore
from kubeedge_cloud.authority.token_keys import TokenKey
from kubeedge_cloud.edgecontroller.node_objects import canonical
from kubeedge_cloud.edgecontroller.token_issuer import keys_of
from kubeedge_cloud.pods_api import ApiForPods
from kubeedge_cloud.tenants.model import TenantRecord
from tests.unit.controllers.world import template

NS = "/api/v1/namespaces/default"
AUTHORITY = ec.generate_private_key(ec.SECP256R1())
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Site:
    """A cloud with two tenants, a node of the first, and a pod on it."""

    def __init__(self) -> None:
        self.cut = False
        self.number = TenantNumber(1)  # of the tenant whose link it is
        self.store, self.edge_store = MemoryStore(), MemoryStore()
        self.now = time.time()
        self.registries = {
            TenantId(name): Registry(
                self.store, TenantId(name), wall=lambda: self.now, account_key=TokenKey(AUTHORITY, TenantId(name))
            )
            for name in ("a", "b")
        }
        self.cloud = ApiForPods(self._find, ApiServer(self.registries.get, self._no_node), self._no_cluster)
        tenant = TenantId("a")
        view = RegistryView(self.edge_store, tenant, wall=lambda: self.now)
        registry = Registry(view, tenant, wall=lambda: self.now, bootstrap=False, owners=False)
        accounts = NodeAccounts(self.edge_store, tenant, wall=lambda: self.now)
        self.gateway = Gateway(self._connect)
        self.node = PodsApi(tenant, registry, accounts, self.gateway, self._no_node)
        self.tasks: set[asyncio.Task[None]] = set()
        self.token = ""
        self.pod: dict[str, Any] = {}

    async def _find(self, number: TenantNumber) -> TenantRecord | None:
        names = {1: "a", 2: "b"}
        return TenantRecord(TenantId(names[number]), number, "") if number in names else None

    async def _no_node(self, tenant: TenantId, node: NodeName) -> Streams:
        raise Unavailable("no node")

    async def _no_cluster(self, record: TenantRecord) -> Streams:
        raise Unavailable("no cluster")

    async def _connect(self, port: L4Port, timeout: float) -> Streams:
        assert port == service_accounts.API_PORT
        if self.cut:
            raise Unavailable("no link")
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=theirs)
        task = asyncio.ensure_future(self.cloud.for_tenant(self.number)(reader, writer))
        self.tasks.add(task)
        return await asyncio.open_connection(sock=ours)

    async def begin(self, access: str = "view") -> None:
        api = self.registries[TenantId("a")]
        inner = {"name": "robot", "annotations": {"kubeedge.io/access": access}}
        await api.create(SERVICEACCOUNTS, "default", {"metadata": inner})
        spec = {**template("p")["spec"], "serviceAccountName": "robot", "nodeName": "edge1"}
        self.pod = await api.create(PODS, "default", {"metadata": {"name": "p"}, "spec": spec})
        await api.create(CONFIGMAPS, "default", {"metadata": {"name": "c"}, "data": {"from": "cloud"}})
        self.token = await self.issue()
        for resource, obj in (
            (PODS, self.pod),
            (CONFIGMAPS, {"metadata": {"name": "c", "namespace": "default"}, "data": {"from": "node"}}),
            (SECRETS, {"metadata": {"name": "s", "namespace": "default"}}),
            (CONFIGMAPS, {"metadata": {"name": "c", "namespace": "other"}}),
        ):
            inner = obj["metadata"]
            await self.edge_store.put(keys.desired(resource.plural, inner["namespace"], inner["name"]), canonical(obj))
        await self.keep(IssuedToken("", 3607, self.token, self.now, self.now + 3607))

    async def issue(self, audience: str = "", *, bound: Object | None = {}, account: str = "robot") -> str:  # noqa: B006
        """`bound`: to what instead of the pod; None: to nothing, as of `kubectl create token`."""
        wanted = service_accounts.Wanted(audience, 3607)
        request = service_accounts.request_for(self.pod, wanted)
        if bound != {}:
            request["spec"]["boundObjectRef"] = bound
        answer = await self.registries[TenantId("a")].create_token("default", account, request)
        return str(answer["status"]["token"])

    async def keep(self, *tokens: IssuedToken, pod: str = "") -> None:
        rules = await self.registries[TenantId("a")].account_rules("default", "robot")
        kept = KeptTokens(pod or self.pod["metadata"]["uid"], "robot", tokens, tuple(rules))
        await self.edge_store.put(keys.desired(service_accounts.RESOURCE, "default", "p"), kept.encode())

    async def raw(self, method: str, target: str, body: Any = None, *, token: str | None = None) -> Response:
        data = b"" if body is None else json.dumps(body).encode()

        async def stream() -> AsyncIterator[bytes]:
            if data:
                yield data

        headers = [("host", "100.64.0.1:10551"), ("connection", "keep-alive"), ("accept", "application/json")]
        headers += [("content-type", "application/json"), ("content-length", str(len(data)))] if data else []
        token = self.token if token is None else token
        headers += [("authorization", f"Bearer {token}")] if token else []
        answer = await self.node.handle(Request(method, target, headers, lambda name: None, stream()))
        assert isinstance(answer, Response)
        return answer

    async def __call__(
        self, method: str, target: str, body: Any = None, *, token: str | None = None
    ) -> tuple[int, Any]:
        answer = await self.raw(method, target, body, token=token)
        got = answer.body if isinstance(answer.body, bytes) else b"".join([piece async for piece in answer.body])
        return answer.status, json.loads(got) if got[:1] == b"{" else got

    def away(self, cut: bool) -> None:
        self.cut = cut
        self.gateway._away_until = 0.0  # the time for which it is not tried again is over

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.store.close()
        await self.edge_store.close()


def at_a_site(test: Callable[[Site], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        async def inside() -> None:
            site = Site()
            try:
                await site.begin()
                await asyncio.wait_for(test(site), 30)
            finally:
                await site.close()

        asyncio.run(inside())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@at_a_site
async def test_a_pod_has_the_clouds_answer_while_there_is_one_and_the_nodes_otherwise(site: Site) -> None:
    assert (await site("GET", f"{NS}/configmaps/c"))[1]["data"] == {"from": "cloud"}
    status, found = await site("GET", f"{NS}/pods")
    assert status == 200 and [pod["metadata"]["name"] for pod in found["items"]] == ["p"]
    site.away(True)
    assert (await site("GET", f"{NS}/configmaps/c"))[1]["data"] == {"from": "node"}
    status, found = await site("GET", f"{NS}/pods")
    assert status == 200 and [pod["metadata"]["name"] for pod in found["items"]] == ["p"]
    assert (await site("GET", "/version"))[0] == 200
    site.away(False)
    assert (await site("GET", f"{NS}/configmaps/c"))[1]["data"] == {"from": "cloud"}


@at_a_site
async def test_the_account_has_the_same_rights_on_both_sides(site: Site) -> None:
    for cut in (False, True):
        site.away(cut)
        for target in (
            f"{NS}/secrets/s",
            f"{NS}/secrets",
            "/api/v1/nodes",
            "/api/v1/configmaps",
            "/api/v1/namespaces/other/configmaps",
        ):
            status, answer = await site("GET", target)
            assert status == 403 and 'User "system:serviceaccount:default:robot"' in answer["message"], (
                cut,
                target,
                answer,
            )
        review = {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "default"}}}
        _, said = await site("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
        assert said["status"] == {"allowed": True}
        _, who = await site("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {})
        assert who["status"]["userInfo"]["username"] == "system:serviceaccount:default:robot"
    made = {"metadata": {"name": "new"}}
    status, answer = await site("POST", f"{NS}/configmaps", made)
    assert status == 503 and "reads alone" in answer["message"]
    site.away(False)
    assert (await site("POST", f"{NS}/configmaps", made))[0] == 403
    edit = {"metadata": {"annotations": {"kubeedge.io/access": "edit"}}}
    await site.registries[TenantId("a")].merge_patch(SERVICEACCOUNTS, "default", "robot", edit)
    assert (await site("POST", f"{NS}/configmaps", made))[0] == 201


@at_a_site
async def test_offline_a_node_knows_the_tokens_of_its_own_pods_alone(site: Site) -> None:
    site.away(True)
    other = await site.issue()  # as good in the cloud, but no pod of this node has it
    vault = await site.issue("vault")
    await site.keep(
        IssuedToken("", 3607, site.token, site.now, site.now + 3607),
        IssuedToken("vault", 3607, vault, site.now, site.now + 3607),
    )
    head, body, signature = site.token.split(".")
    claims = {**service_accounts.parts(site.token).claims, "sub": "system:serviceaccount:kube-system:x"}
    forged = service_accounts.encoded(json.dumps(claims).encode()).decode()
    wrong = (
        other,
        vault,
        f"{head}.{forged}.{signature}",
        f"{head}.{body}.",
        site.token + "x",
        "x",
        "a.b.c",
        "node-admin",
        "",
    )
    for token in wrong:
        assert (await site("GET", f"{NS}/pods", token=token))[0] == 401, token
    assert (await site("GET", f"{NS}/pods"))[0] == 200
    await site.keep(IssuedToken("", 3607, site.token, site.now, site.now + 3607), pod="another")
    assert (await site("GET", f"{NS}/pods"))[0] == 401
    await site.keep(IssuedToken("", 3607, site.token, site.now, site.now + 3607))
    await site.edge_store.delete(keys.desired("pods", "default", "p"))
    assert (await site("GET", f"{NS}/pods"))[0] == 401


@at_a_site
async def test_offline_another_token_of_such_an_account_is_verified_by_the_keys_of_its_issuer(site: Site) -> None:
    async def status(token: str) -> int:
        return (await site("GET", f"{NS}/pods", token=token))[0]

    api = site.registries[TenantId("a")]
    of_pod, free = await site.issue(), await site.issue(bound=None)
    await api.create(SECRETS, "default", {"metadata": {"name": "held"}})
    await api.create(SERVICEACCOUNTS, "default", {"metadata": {"name": "default"}})
    of_secret = await site.issue(bound={"kind": "Secret", "apiVersion": "v1", "name": "held"})
    vault, nobody = await site.issue("vault", bound=None), await site.issue(bound=None, account="default")
    await api.delete(SERVICEACCOUNTS, "default", "robot")
    await api.create(SERVICEACCOUNTS, "default", {"metadata": {"name": "robot"}})
    namesake = await site.issue(bound=None)
    site.away(True)
    assert [await status(token) for token in (of_pod, free)] == [401, 401]  # it has no keys yet
    issuer = keys.desired(service_accounts.KEYS, "", service_accounts.ISSUER_KEYS)
    await site.edge_store.put(issuer, service_accounts.encode_keys(keys_of(await api.issuer_keys())))
    assert [await status(token) for token in (of_pod, free, site.token)] == [200, 200, 200]
    assert (await site("GET", f"{NS}/secrets", token=free))[0] == 403  # with the rights of its account, as last known
    for token in (of_secret, vault, nobody, namesake, f"{free[:-4]}AAAA", free + "A"):
        assert await status(token) == 401, service_accounts.parts(token).claims
    head, body, signature = free.split(".")
    none = service_accounts.encoded(json.dumps({"alg": "none", "kid": "x"}).encode()).decode()
    assert [await status(f"{none}.{body}.{s}") for s in (signature, "")] == [401, 401]
    # rotated: the next key signs, and the one before it counts for as long as the issuer names it
    await site.edge_store.put(issuer, service_accounts.encode_keys(()))
    assert await status(free) == 401 and await status(site.token) == 200
    await site.edge_store.put(issuer, b"damaged")
    assert await status(free) == 401
    await site.edge_store.put(issuer, service_accounts.encode_keys(keys_of(await api.issuer_keys())))
    site.now += 3608
    assert await status(free) == 401 and await status(site.token) == 200  # it is not the newest of a pod
    site.now -= 3608
    await site.edge_store.delete(keys.desired("pods", "default", "p"))
    assert [await status(token) for token in (of_pod, free)] == [401, 401]


@at_a_site
async def test_a_token_that_has_expired_goes_on_while_the_node_can_have_no_newer(site: Site) -> None:
    site.now += 100_000
    assert (await site("GET", f"{NS}/pods"))[0] == 401  # the cloud is there, and there is a newer one
    site.away(True)
    assert (await site("GET", f"{NS}/pods"))[0] == 200
    first, second = site.token, await site.issue()
    await site.keep(IssuedToken("", 3607, second, site.now, site.now + 3607, first))
    assert (await site("GET", f"{NS}/pods", token=second))[0] == 200
    assert (await site("GET", f"{NS}/pods", token=first))[0] == 401  # replaced, and its own time is over
    third = await site.issue()
    await site.keep(IssuedToken("", 3607, third, site.now, site.now + 3607, second))
    for token in (second, third):  # a client reads the file again in a while
        assert (await site("GET", f"{NS}/pods", token=token))[0] == 200


@at_a_site
async def test_a_version_of_one_side_is_not_taken_for_one_of_the_other(site: Site) -> None:
    def watch(version: str) -> str:
        return f"{NS}/configmaps?watch=true&timeoutSeconds=1&resourceVersion={version}"

    _, listed = await site("GET", f"{NS}/configmaps")
    version = listed["metadata"]["resourceVersion"]
    answer = await site.raw("GET", watch(version))
    assert answer.status == 200 and not isinstance(answer.body, bytes)
    await answer.body.aclose()  # type: ignore[attr-defined]
    site.away(True)
    status, gone = await site("GET", watch(version))
    assert status == 410 and gone["reason"] == "Expired"
    _, listed = await site("GET", f"{NS}/configmaps")
    here = listed["metadata"]["resourceVersion"]
    answer = await site.raw("GET", watch(here))
    assert answer.status == 200 and not isinstance(answer.body, bytes)
    await site.edge_store.put(
        keys.desired("configmaps", "default", "c"),
        canonical({"metadata": {"name": "c", "namespace": "default"}, "data": {}}),
    )
    event = json.loads(await anext(aiter(answer.body)))
    assert event["type"] == "MODIFIED" and event["object"]["metadata"]["name"] == "c"
    await answer.body.aclose()  # type: ignore[attr-defined]
    site.away(False)
    assert (await site("GET", watch(here)))[0] == 410
    assert (await site("GET", f"{NS}/configmaps"))[0] == 200
    assert (await site("GET", watch("0").replace("timeoutSeconds=1", "timeoutSeconds=0x")))[0] == 400


@at_a_site
async def test_a_link_opens_nothing_of_another_tenant_and_nothing_without_a_token(site: Site) -> None:
    site.number = TenantNumber(2)
    status, answer = await site("GET", f"{NS}/pods")
    assert status == 403 and "another tenant" in answer["message"]
    site.number = TenantNumber(1)
    reader, writer = await site._connect(service_accounts.API_PORT, 1.0)  # what an agent could send on its own
    writer.write(
        b"GET /api/v1/secrets HTTP/1.1\r\nhost: x\r\n\r\nGET /version HTTP/1.1\r\nhost: x\r\nauthorization: Basic eA==\r\n\r\n"
    )
    data = b""
    while data.count(b"HTTP/1.1 401") < 2:
        data += await asyncio.wait_for(reader.readuntil(b"}"), 60)
    writer.close()
    site.number = TenantNumber(3)  # removed meanwhile
    assert (await site("GET", f"{NS}/pods"))[0] == 503


@at_a_site
async def test_a_connection_that_breaks_is_an_error_that_clients_try_again(site: Site) -> None:
    async def breaks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.1 200 OK\r\n")
        await writer.drain()
        writer.close()

    site.cloud.for_tenant = lambda number: breaks  # type: ignore[method-assign]
    answer = await site.raw("GET", f"{NS}/pods")
    assert answer.status == 503 and ("retry-after", "1") in answer.headers


@at_a_site
async def test_a_cloud_that_does_not_answer_is_not_waited_for_by_every_request(site: Site) -> None:
    asked = 0

    async def silent(port: L4Port, timeout: float) -> Streams:
        nonlocal asked
        asked += 1
        raise Unavailable("no link")

    site.gateway._connect = silent
    for _ in range(5):
        assert (await site("GET", f"{NS}/pods"))[0] == 200
    assert asked == 1
