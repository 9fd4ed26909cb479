"""Service accounts: tokens that are made, shown, looked through and refused; what pods get of them; what their bearers may do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from kubeedge.api import service_accounts
from kubeedge.api.names import NodeName, TenantId
from kubeedge.apiserver.registry import Registry
from kubeedge.apiserver.server import ApiServer
from kubeedge.errors import Unavailable
from kubeedge.kit.http1 import Request
from kubeedge.store.memory import MemoryStore
from kubeedge_cloud.authority.token_keys import TokenKey
from tests.unit.controllers.world import template

NOON = 1_790_000_000.0
AUTHORITY = ec.generate_private_key(ec.SECP256R1())
NS = "/api/v1/namespaces/default"
ADMIN = "spiffe://kubeedge/tenant/{}/user/admin"


class Peer:
    def __init__(self, uri: str) -> None:
        self._uri = uri

    def getpeercert(self) -> dict[str, Any]:
        return {"subjectAltName": (("URI", self._uri),)} if self._uri else {}


async def no_body() -> AsyncIterator[bytes]:
    """Of a request that has none."""
    for piece in ():
        yield piece


class Api:
    """Two tenants of one authority."""

    def __init__(self) -> None:
        self.now = NOON
        self.joins: dict[NodeName, str] = {}
        self.store = MemoryStore()
        self.registries = {
            TenantId(name): Registry(
                self.store,
                TenantId(name),
                wall=lambda: self.now,
                account_key=TokenKey(AUTHORITY, TenantId(name)),
                joins=self._join_of,
            )
            for name in ("a", "b")
        }
        self.server = ApiServer(self.registries.get, self.no_node)

    async def _join_of(self, node: NodeName) -> str | None:
        return self.joins.get(node)

    async def no_node(self, tenant: TenantId, node: NodeName) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        raise Unavailable(f"no link to {node}")

    async def __call__(
        self, method: str, target: str, body: Any = b"", *, token: str = "", tenant: str = "a"
    ) -> tuple[int, Any]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()

        async def stream() -> AsyncIterator[bytes]:
            yield data

        headers = [("content-type", "application/json"), ("host", "api.example:6443")]
        headers += [("authorization", f"Bearer {token}")] if token else []
        peer = Peer("" if token else ADMIN.format(tenant))
        answer = await self.server.handle(Request(method, target, headers, lambda name: peer, stream()))
        assert isinstance(answer.body, bytes)
        return answer.status, json.loads(answer.body)

    async def account(self, name: str = "robot", **annotations: str) -> dict[str, Any]:
        status, made = await self(
            "POST", f"{NS}/serviceaccounts", {"metadata": {"name": name, "annotations": annotations}}
        )
        assert status == 201, made
        return dict(made)

    async def token(self, name: str = "robot", **spec: Any) -> str:
        status, made = await self("POST", f"{NS}/serviceaccounts/{name}/token", {"spec": spec})
        assert status == 201, made
        return str(made["status"]["token"])

    async def pod(self, name: str = "p", **spec: Any) -> dict[str, Any]:
        status, made = await self(
            "POST", f"{NS}/pods", {"metadata": {"name": name}, "spec": {**template(name)["spec"], **spec}}
        )
        assert status == 201, made
        return dict(made)

    async def whoami(self, token: str) -> tuple[int, Any]:
        return await self("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {}, token=token)


def with_api(test: Callable[[Api], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        async def inside() -> None:
            api = Api()
            try:
                await asyncio.wait_for(test(api), 20)
            finally:
                await api.store.close()

        asyncio.run(inside())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@with_api
async def test_a_token_says_whose_it_is_and_opens_the_api(api: Api) -> None:
    account = await api.account()
    token = await api.token()
    claims = service_accounts.parts(token).claims
    assert claims["sub"] == "system:serviceaccount:default:robot" and claims["exp"] - claims["iat"] == 3600
    assert claims["kubernetes.io"]["serviceaccount"]["uid"] == account["metadata"]["uid"]
    assert claims["aud"] == [claims["iss"]] == ["https://kubernetes.default.svc.cluster.local"]
    status, who = await api.whoami(token)
    user = who["status"]["userInfo"]
    assert status == 201 or status == 200
    assert user["username"] == claims["sub"] and user["uid"] == account["metadata"]["uid"]
    assert user["groups"] == ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"]


@with_api
async def test_a_token_ends_with_its_time_its_account_and_its_pod(api: Api) -> None:
    await api.account()
    pod = await api.pod(serviceAccountName="robot")
    plain = await api.token()
    reference = {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": pod["metadata"]["uid"]}
    bound = await api.token(boundObjectRef=reference, expirationSeconds=7200)
    assert (await api.whoami(bound))[0] < 300
    api.now += 3601
    assert (await api.whoami(plain))[0] == 401 and (await api.whoami(bound))[0] < 300
    await api("DELETE", f"{NS}/pods/p")
    assert (await api.whoami(bound))[0] == 401
    await api.pod(serviceAccountName="robot")  # another pod of that name is another pod
    assert (await api.whoami(bound))[0] == 401
    again = await api.token()
    await api("DELETE", f"{NS}/serviceaccounts/robot")
    assert (await api.whoami(again))[0] == 401
    await api.account()
    assert (await api.whoami(again))[0] == 401


@with_api
async def test_a_token_ends_with_the_join_of_its_node(api: Api) -> None:
    edge1 = NodeName("edge1")
    await api.account()
    await api("POST", "/api/v1/nodes", {"metadata": {"name": "edge1"}})
    pod = await api.pod(serviceAccountName="robot", nodeName="edge1")
    bound = (
        {"kind": "Pod", "name": "p", "uid": pod["metadata"]["uid"]},
        {"kind": "Node", "name": "edge1"},
    )
    for reference in bound:
        api.joins[edge1] = "one"
        first = await api.token(boundObjectRef=reference)
        plain = await api.token()
        assert (await api.whoami(first))[0] < 300
        api.joins[edge1] = "two"  # kubeedge join --replace: pod and Node are the same
        review = {"spec": {"token": first}}
        _, answer = await api("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review)
        assert (await api.whoami(first))[0] == 401 and not answer["status"].get("authenticated"), reference
        second = await api.token(boundObjectRef=reference)
        assert (await api.whoami(second))[0] < 300
        del api.joins[edge1]  # the node was removed, and its pods are still there
        assert (await api.whoami(first))[0] == 401 and (await api.whoami(second))[0] == 401, reference
        assert (await api.whoami(plain))[0] < 300
        api.joins[edge1] = ""  # joined before joins had an id
        assert (await api.whoami(await api.token(boundObjectRef=reference)))[0] < 300


@with_api
async def test_what_is_bound_to_has_to_be_there_and_of_that_account(api: Api) -> None:
    await api.account()
    pod = await api.pod()  # of the account default
    uid = pod["metadata"]["uid"]
    target = f"{NS}/serviceaccounts/robot/token"
    for reference, code in (
        ({"kind": "Pod", "name": "absent"}, 404),
        ({"kind": "Pod", "name": "p", "uid": "other"}, 409),
        ({"kind": "Pod", "name": "p", "uid": uid}, 403),
        ({"kind": "Service", "name": "p"}, 422),
        ("p", 422),
    ):
        status, answer = await api("POST", target, {"spec": {"boundObjectRef": reference}})
        assert status == code, (reference, answer)
    for spec in (
        {"expirationSeconds": 599},
        {"expirationSeconds": 2**33},
        {"audiences": [1]},
        {"audiences": ["x"] * 33},
    ):
        assert (await api("POST", target, {"spec": spec}))[0] == 422, spec
    assert (await api("POST", f"{NS}/serviceaccounts/absent/token", {}))[0] == 404


def forged(token: str, **changes: Any) -> list[str]:
    """What an attacker can make of a token."""
    head, body, signature = token.split(".")
    claims = {**service_accounts.parts(token).claims, **changes}
    other = service_accounts.encoded(json.dumps(claims).encode()).decode()
    none = service_accounts.encoded(
        json.dumps({**service_accounts.parts(token).header, "alg": "none"}).encode()
    ).decode()
    flipped = ("A" if signature[0] != "A" else "B") + signature[1:]
    return [
        f"{head}.{other}.{signature}", f"{none}.{body}.", f"{none}.{body}.{signature}", f"{head}.{body}.", f"{head}.{body}.{flipped}",
        f"{head}.{body}.{signature}A", f"{head}.{body}.{signature}=", "x.y.z", "..", f"{head}.{body}", token + "." + signature,
        f"{head}.{body}.{'A' * 86}", "é.é.é",
    ]  # fmt: skip


@with_api
async def test_nothing_but_a_token_of_the_tenants_own_key_opens(api: Api) -> None:
    await api.account()
    token = await api.token()
    for attempt in forged(token, sub="system:serviceaccount:kube-system:admin"):
        assert (await api.whoami(attempt))[0] == 401, attempt
    claims = service_accounts.parts(token).claims
    for tenant, authority in (("a", ec.generate_private_key(ec.SECP256R1())), ("b", AUTHORITY)):
        key = TokenKey(authority, TenantId(tenant))
        for kid in (key.id, TokenKey(AUTHORITY, TenantId("a")).id, "a", "", "zz.x", 7):
            signed = service_accounts.signing_input({"alg": "ES256", "kid": kid}, claims)
            attempt = b".".join((signed, service_accounts.encoded(key.sign(signed)))).decode()
            # with the key of tenant b it is b's, where the account does not exist
            assert (await api.whoami(attempt))[0] == 401, (tenant, kid)
    assert (await api.whoami(await api.token(audiences=["vault"])))[0] == 401


@with_api
async def test_an_account_may_do_what_its_annotation_says_in_its_own_namespace(api: Api) -> None:
    await api("POST", f"{NS}/configmaps", {"metadata": {"name": "c"}, "data": {}})
    await api("POST", f"{NS}/secrets", {"metadata": {"name": "s"}})
    await api("POST", "/api/v1/namespaces", {"metadata": {"name": "other"}})
    table = {
        # target, method: plain, view, edit
        ("GET", f"{NS}/configmaps/c"): (403, 200, 200),
        ("GET", f"{NS}/configmaps?watch=1&timeoutSeconds=0x"): (403, 400, 400),
        ("GET", f"{NS}/pods"): (403, 200, 200),
        ("GET", f"{NS}/secrets/s"): (403, 403, 200),
        ("GET", f"{NS}/secrets"): (403, 403, 200),
        ("POST", f"{NS}/configmaps"): (403, 403, 201),
        ("DELETE", f"{NS}/configmaps/made"): (403, 403, 200),
        ("POST", f"{NS}/serviceaccounts"): (403, 403, 403),
        ("POST", f"{NS}/serviceaccounts/edit/token"): (403, 403, 403),
        ("DELETE", f"{NS}/configmaps"): (403, 403, 200),
        ("GET", "/api/v1/configmaps"): (403, 403, 403),
        ("GET", "/api/v1/namespaces/other/configmaps"): (403, 403, 403),
        ("GET", "/api/v1/nodes"): (403, 403, 403),
        ("DELETE", "/api/v1/namespaces/default"): (403, 403, 403),
        ("GET", "/api/v1"): (200, 200, 200),
        ("GET", "/version"): (200, 200, 200),
        ("GET", "/openid/v1/jwks"): (200, 200, 200),
    }
    for column, level in enumerate(("", "view", "edit")):
        await api.account(level or "plain", **({"kubeedge.io/access": level} if level else {}))
        token = await api.token(level or "plain")
        for (method, target), codes in table.items():
            body = {"metadata": {"name": "made"}} if method == "POST" else b""
            status, answer = await api(method, target, body, token=token)
            assert status == codes[column], (level, method, target, answer)
            if status == 403:
                assert f"system:serviceaccount:default:{level or 'plain'}" in answer["message"]
        review = {"spec": {"resourceAttributes": {"verb": "list", "resource": "pods", "namespace": "default"}}}
        _, said = await api("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review, token=token)
        assert said["status"]["allowed"] is bool(level)
        assert (await api("POST", "/apis/authentication.k8s.io/v1/tokenreviews", {}, token=token))[0] == 403


@with_api
async def test_a_pod_gets_its_account_and_the_volume_of_the_api(api: Api) -> None:
    await api.account("robot")
    await api.account("quiet")
    await api(
        "PUT", f"{NS}/serviceaccounts/quiet", {"metadata": {"name": "quiet"}, "automountServiceAccountToken": False}
    )
    pod = await api.pod("p1", initContainers=[{"name": "i", "image": "x"}])
    assert pod["spec"]["serviceAccountName"] == pod["spec"]["serviceAccount"] == "default"
    volume = pod["spec"]["volumes"][-1]
    assert volume["name"].startswith("kube-api-access-")
    token, root, namespace = volume["projected"]["sources"]
    assert token == {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}
    assert (
        root["configMap"]["name"] == "kube-root-ca.crt" and namespace["downwardAPI"]["items"][0]["path"] == "namespace"
    )
    for container in (*pod["spec"]["initContainers"], *pod["spec"]["containers"]):
        (mount,) = container["volumeMounts"]
        assert mount["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount" and mount["readOnly"] is True
    for name, spec in (("p2", {"automountServiceAccountToken": False}), ("p3", {"serviceAccountName": "quiet"})):
        assert not (await api.pod(name, **spec))["spec"].get("volumes")
    both = await api.pod("p4", serviceAccountName="quiet", automountServiceAccountToken=True)
    assert both["spec"]["volumes"]
    mine = [{"name": "v", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount/"}]
    own = await api.pod(
        "p5", volumes=[{"name": "v", "emptyDir": {}}], containers=[{"name": "c", "image": "x", "volumeMounts": mine}]
    )
    assert [v["name"] for v in own["spec"]["volumes"]] == ["v"]
    status, answer = await api(
        "POST",
        f"{NS}/pods",
        {"metadata": {"name": "p6"}, "spec": {**template("p6")["spec"], "serviceAccountName": "absent"}},
    )
    assert status == 403 and "error looking up service account default/absent" in answer["message"]


@with_api
async def test_a_token_review_tells_others_who_shows_a_token(api: Api) -> None:
    await api.account()
    pod = await api.pod(serviceAccountName="robot")
    reference = {"kind": "Pod", "name": "p", "uid": pod["metadata"]["uid"]}
    vault, own = await api.token(audiences=["vault"], boundObjectRef=reference), await api.token()
    reviews = "/apis/authentication.k8s.io/v1/tokenreviews"
    _, review = await api("POST", reviews, {"spec": {"token": vault, "audiences": ["vault", "x"]}})
    status = review["status"]
    assert status["authenticated"] is True and status["audiences"] == ["vault"]
    assert status["user"]["username"] == "system:serviceaccount:default:robot"
    assert status["user"]["extra"]["authentication.kubernetes.io/pod-name"] == ["p"]
    assert vault not in json.dumps(review)
    for token, audiences, tenant in ((vault, None, "a"), (own, ["vault"], "a"), (own, None, "b"), ("x.y.z", None, "a")):
        _, review = await api("POST", reviews, {"spec": {"token": token, "audiences": audiences}}, tenant=tenant)
        assert not review["status"].get("authenticated") and review["status"]["error"], token
    _, review = await api("POST", reviews, {"spec": {"token": own}})
    assert review["status"]["authenticated"] is True
    assert (await api("POST", reviews, {"spec": {}}))[0] == 400


@with_api
async def test_the_issuers_keys_verify_its_tokens(api: Api) -> None:
    await api.account()
    token = await api.token()
    _, found = await api("GET", "/.well-known/openid-configuration")
    assert found["jwks_uri"] == "https://api.example:6443/openid/v1/jwks"
    assert found["issuer"] == service_accounts.parts(token).claims["iss"]
    _, keys = await api("GET", "/openid/v1/jwks", token=token)
    (key,) = keys["keys"]
    assert key["kid"] == service_accounts.parts(token).header["kid"] and key["kty"] == "EC"
    x, y = (int.from_bytes(service_accounts.decoded(key[part]), "big") for part in ("x", "y"))
    ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    assert "d" not in key


@pytest.mark.parametrize("life, due", [(3607, 0.8 * 3607), (10 * 24 * 3600, 24 * 3600)])
def test_a_token_is_due_at_four_fifths_of_its_life(life: int, due: float) -> None:
    token = service_accounts.IssuedToken("", life, "t", NOON, NOON + life)
    assert token.due == pytest.approx(NOON + due)
