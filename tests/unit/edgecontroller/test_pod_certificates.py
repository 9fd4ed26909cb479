"""Certificates of pods in the cloud: what nodes ask for becomes PodCertificateRequests in their name, and the answers go down."""

from __future__ import annotations

import base64
import json
from types import SimpleNamespace
from typing import Any

import pytest

from kubeedge.api.names import NodeName, Object
from kubeedge.api.pod_certificates import DENIED, FAILED, ISSUED, MAX_CHAIN, answers_of, digest, request_row
from kubeedge.api.resources import PODCERTIFICATEREQUESTS, SERVICEACCOUNTS, Resource, Resources, Row
from kubeedge.api.status import AlreadyExists, Forbidden, InvalidObject, NoSuchPath
from kubeedge.apiserver.builtin import BUILT_IN
from kubeedge.apiserver.registry import Registry
from kubeedge.errors import Invalid
from kubeedge.store.memory import MemoryStore
from kubeedge_cloud.edgecontroller.pod_certificates import PodCertificateRequests, answer_in
from tests.kit import virtual_time
from tests.unit.controllers.world import TENANT

EDGE1 = NodeName("edge1")
REST = "podcertificates/default/web"
CSR = b"a request"
SOURCE = {
    "signerName": "x.example/s", "keyType": "ED25519", "keyPath": "k", "maxExpirationSeconds": 3600,
    "userAnnotations": {"x.example/a": "b"},
}  # fmt: skip
POD: Object = {
    "metadata": {"name": "web", "namespace": "default", "uid": "u1"},
    "spec": {
        "nodeName": "edge1", "serviceAccountName": "builder",
        "volumes": [{"name": "v", "projected": {"sources": [{"podCertificate": SOURCE}]}}],
    },
}  # fmt: skip
ROW = Row(PODCERTIFICATEREQUESTS, "podcertificaterequest")
TIMES = {
    "notBefore": "2026-01-01T00:00:00Z", "beginRefreshAt": "2026-01-01T12:00:00Z", "notAfter": "2026-01-02T00:00:00Z"
}  # fmt: skip


class Api:
    """A cluster for a node: it may not read a request that is not there."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.refuses: Exception | None = None

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        found = await self.registry.list(resource, namespace)
        if resource is PODCERTIFICATEREQUESTS and name not in {one["metadata"]["name"] for one in found.items}:
            raise Forbidden("no relationship found between node and this object")
        return await self.registry.get(resource, namespace, name)

    async def create(self, resource: Resource, namespace: str, obj: Object) -> Object:
        if self.refuses is not None:
            raise self.refuses
        return await self.registry.create(resource, namespace, obj)


class Cloud:
    def __init__(self, store: MemoryStore) -> None:
        self.api = Api(Registry(store, TENANT, served=Resources((*BUILT_IN, ROW))))
        self.told: list[NodeName] = []
        self.pod: Object | None = POD
        self.ours = True
        node = {"metadata": {"name": "edge1", "uid": "n1"}}
        state: Any = SimpleNamespace(
            cluster=True, client_of=lambda node: self.api, has_node=lambda node: self.ours,
            pods=SimpleNamespace(get=lambda *_: self.pod), nodes=SimpleNamespace(get=lambda *_: node),
        )  # fmt: skip
        self.state = state
        self.requests = PodCertificateRequests(state, self.told.append)

    async def begin(self) -> None:
        account = {"metadata": {"name": "builder", "namespace": "default"}}
        await self.api.registry.create(SERVICEACCOUNTS, "default", account)
        self.requests.reported(EDGE1, REST, asks=True)

    async def look(self, uid: str = "u1", source: str = "v/0", request: bytes = CSR) -> float | None:
        return await self.requests.look(EDGE1, REST, request_row(uid, {source: request}))

    async def made(self) -> list[Object]:
        return list((await self.api.registry.list(PODCERTIFICATEREQUESTS, "default")).items)

    async def signs(self, condition: str, **status: Any) -> None:
        """The signer of all requests that there are."""
        for one in await self.made():
            said = {"type": condition, "status": "True", "reason": "R", "message": "M"}
            await self.api.registry.update(
                PODCERTIFICATEREQUESTS, "default", {**one, "status": {"conditions": [said], **status}}
            )

    def answer(self) -> Any:
        rows = self.requests.rows(EDGE1, {})
        return answers_of(json.loads(rows[REST]))[1].get("v/0") if rows else None


def scenario(test: Any) -> Any:
    def run() -> None:
        async def inner() -> None:
            store = MemoryStore()
            cloud = Cloud(store)
            await cloud.begin()
            await test(cloud)
            await store.close()

        virtual_time.run(inner())

    run.__name__ = test.__name__
    return run


@scenario
async def test_a_request_is_made_of_what_the_api_knows_and_its_certificate_goes_down_until_it_is_taken(
    cloud: Cloud,
) -> None:
    assert await cloud.look() == 0.25
    (made,) = await cloud.made()
    account = await cloud.api.registry.get(SERVICEACCOUNTS, "default", "builder")
    assert made["spec"] == {
        "signerName": "x.example/s", "podName": "web", "podUID": "u1", "serviceAccountName": "builder",
        "serviceAccountUID": account["metadata"]["uid"], "nodeName": "edge1", "nodeUID": "n1",
        "maxExpirationSeconds": 3600, "unverifiedUserAnnotations": {"x.example/a": "b"},
        "stubPKCS10Request": base64.b64encode(CSR).decode(),
    }  # fmt: skip
    assert made["metadata"]["ownerReferences"][0]["uid"] == "u1"
    assert await cloud.look() == 0.5 and cloud.answer() is None and cloud.told == []
    await cloud.signs(ISSUED, certificateChain="PEM", **TIMES)
    assert await cloud.look() is None and cloud.told == [EDGE1]
    answer = cloud.answer()
    assert (answer.request, answer.outcome, answer.chain) == (digest(CSR), ISSUED, "PEM")
    assert answer.not_after - answer.refresh == answer.refresh - answer.not_before == 12 * 3600.0
    assert await cloud.look() is None and cloud.told == [EDGE1]  # nothing is asked of the API again
    cloud.requests.reported(EDGE1, REST, asks=False)
    assert cloud.answer() is None and cloud.told == [EDGE1, EDGE1]


@scenario
async def test_another_process_finds_what_one_has_made_and_keeps_what_it_has_answered(cloud: Cloud) -> None:
    await cloud.look()
    await cloud.signs(ISSUED, certificateChain="PEM", **TIMES)
    await cloud.look()
    have = cloud.requests.rows(EDGE1, {})
    other = PodCertificateRequests(cloud.state, cloud.told.append)
    assert other.rows(EDGE1, have) == {}
    other.reported(EDGE1, REST, asks=True)
    assert other.rows(EDGE1, have) == have
    assert await other.look(EDGE1, REST, request_row("u1", {"v/0": CSR})) is None
    assert other.rows(EDGE1, {}) == have and len(await cloud.made()) == 1


@scenario
async def test_a_renewal_is_another_request(cloud: Cloud) -> None:
    await cloud.look()
    await cloud.signs(ISSUED, certificateChain="PEM", **TIMES)
    await cloud.look()
    assert await cloud.look(request=b"the next one") is not None
    assert len(await cloud.made()) == 2 and cloud.answer() is None


@scenario
async def test_refusals_of_signers_and_of_the_api_are_answers(cloud: Cloud) -> None:
    await cloud.look()
    await cloud.signs(DENIED)
    await cloud.look()
    assert (cloud.answer().outcome, cloud.answer().reason, cloud.answer().message) == (DENIED, "R", "M")
    for error, reason in ((InvalidObject("spec: bad"), "Invalid"), (NoSuchPath("no path"), "NotServed")):
        cloud.api.refuses = error
        assert await cloud.look(request=reason.encode()) is None
        assert (cloud.answer().outcome, cloud.answer().reason) == (FAILED, reason)


@scenario
async def test_an_authorizer_that_is_behind_is_waited_for(cloud: Cloud) -> None:
    cloud.api.refuses = AlreadyExists("it is there")
    assert await cloud.look() is not None and cloud.answer() is None
    cloud.api.refuses = Forbidden("pod is not running on node")
    with pytest.raises(Forbidden):  # the queue tries again, later and later
        await cloud.look()


@scenario
async def test_the_embedded_api_has_no_signers_and_says_so(cloud: Cloud) -> None:
    cloud.state.cluster = False
    assert await cloud.look() is None
    assert cloud.answer().outcome == FAILED and "PodCertificateRequests" in cloud.answer().message
    assert await cloud.made() == []


@scenario
async def test_a_node_asks_for_its_own_pods_and_their_own_sources(cloud: Cloud) -> None:
    assert await cloud.look(uid="u2") is None
    assert await cloud.look(source="v/1") is not None  # not this pod's: there is never an answer
    others = (None, {**POD, "spec": {**POD["spec"], "nodeName": "edge2"}},
              {**POD, "metadata": {**POD["metadata"], "annotations": {"kubernetes.io/config.mirror": "x"}}})  # fmt: skip
    for pod in others:
        cloud.pod = pod
        assert await cloud.look() is None
    cloud.pod, cloud.ours = POD, False  # the Node is another one's
    assert await cloud.look() == 60.0
    assert await cloud.made() == [] and cloud.answer() is None


@scenario
async def test_what_no_node_of_ours_reports_is_refused(cloud: Cloud) -> None:
    good = base64.b64encode(CSR).decode()
    for row in ({}, {"uid": 1, "requests": {}}, {"uid": "u1", "requests": [good]},
                {"uid": "u1", "requests": {"v/0": "%"}}, {"uid": "u1", "requests": {"v/0": "A" * 10_000}},
                {"uid": "u1", "requests": {f"v/{n}": good for n in range(17)}}):  # fmt: skip
        with pytest.raises(Invalid):
            await cloud.requests.look(EDGE1, REST, row)
    cloud.pod = None
    for rest in ("podcertificates/web", "podcertificates", "podcertificates/a/b/c"):
        assert await cloud.requests.look(EDGE1, rest, request_row("u1", {"v/0": CSR})) is None


@scenario
async def test_of_a_node_that_was_removed_nothing_is_kept(cloud: Cloud) -> None:
    await cloud.look()
    await cloud.signs(DENIED)
    await cloud.look()
    cloud.requests.forget(EDGE1)
    assert cloud.requests.rows(EDGE1, {REST: b"{}"}) == {}


@pytest.mark.parametrize(
    "status",
    [{"certificateChain": "x" * (MAX_CHAIN + 1), **TIMES}, {"certificateChain": "PEM"}],
)
def test_what_a_signer_should_not_issue_is_a_failure(status: dict[str, str]) -> None:
    found = {"status": {"conditions": [{"type": ISSUED, "status": "True"}], **status}}
    answer = answer_in(found, "d")
    assert answer is not None and (answer.outcome, answer.reason) == (FAILED, "Unusable")


@pytest.mark.parametrize(
    "status", [None, {}, {"conditions": []}, {"conditions": [{"type": ISSUED, "status": "False"}]}]
)
def test_a_request_without_a_condition_is_not_answered(status: Any) -> None:
    assert answer_in({"status": status}, "d") is None
