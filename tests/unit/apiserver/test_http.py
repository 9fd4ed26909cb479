"""The API over HTTP, in process: routes, bodies, refusals. Real kubectl is in tests/kubectl."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubeedge.api import keys, meta, status
from kubeedge.api.client import Resource
from kubeedge.api.names import NodeName, TenantId
from kubeedge.api.resources import CONFIGMAPS, PODS, Resources, Row
from kubeedge.apiserver import openapi
from kubeedge.apiserver import server as server_module
from kubeedge.apiserver.answers import status_response
from kubeedge.apiserver.builtin import BUILT_IN
from kubeedge.apiserver.offload import Offload
from kubeedge.apiserver.registry import Registry
from kubeedge.apiserver.server import ApiServer
from kubeedge.errors import Unavailable
from kubeedge.kit.http1 import Request, Response
from kubeedge.store.memory import MemoryStore

MERGE = "application/merge-patch+json"


class Peer:
    """The TLS object of a connection, as far as the server looks at it."""

    def __init__(self, uri: str) -> None:
        self._uri = uri

    def getpeercert(self) -> dict[str, Any]:
        return {"subjectAltName": (("URI", self._uri),)}


class Api:
    def __init__(self) -> None:
        self.store = MemoryStore()
        self.registries = {TenantId(name): Registry(self.store, TenantId(name)) for name in ("a", "b")}
        self.server = ApiServer(self.registries.get, self._no_node)

    async def _no_node(self, tenant: TenantId, node: NodeName) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        raise Unavailable(f"no link to {node}")

    async def raw(
        self, method: str, target: str, body: bytes = b"", *, uri: str | None = "", **headers: str
    ) -> Response:
        async def stream() -> AsyncIterator[bytes]:
            for start in range(0, len(body), 65536):
                yield body[start : start + 65536]

        peer = None if uri is None else Peer(uri or "spiffe://kubeedge/tenant/a/user/admin")
        sent = [(name.replace("_", "-"), value) for name, value in headers.items()]
        return await self.server.handle(
            Request(method, target, sent, lambda name: peer if name == "ssl_object" else None, stream())
        )

    async def __call__(
        self, method: str, target: str, body: Any = b"", *, uri: str | None = "", **headers: str
    ) -> tuple[int, Any]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = await self.raw(method, target, data, uri=uri, **headers)
        got = answer.body if isinstance(answer.body, bytes) else b"".join([piece async for piece in answer.body])
        return answer.status, json.loads(got) if got[:1] in (b"{", b"[") else got


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


DEFAULT = "/api/v1/namespaces/default"


def configmap(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


@with_api
async def test_an_object_lives_its_life(api: Api) -> None:
    status, made = await api("POST", f"{DEFAULT}/configmaps", configmap("c", k="1"))
    assert status == 201 and made["kind"] == "ConfigMap"
    assert await api("GET", f"{DEFAULT}/configmaps/c") == (200, made)
    status, found = await api("GET", "/api/v1/configmaps")
    assert found["kind"] == "ConfigMapList" and found["items"] == [made]
    status, put = await api("PUT", f"{DEFAULT}/configmaps/c", {**made, "data": {"k": "2"}})
    assert status == 200 and put["data"] == {"k": "2"}
    status, patched = await api("PATCH", f"{DEFAULT}/configmaps/c", {"data": {"k": None}}, content_type=MERGE)
    assert status == 200 and patched["data"] == {}
    status, gone = await api("DELETE", f"{DEFAULT}/configmaps/c")
    assert status == 200 and gone["status"] == "Success" and gone["details"]["uid"] == made["metadata"]["uid"]
    status, missing = await api("GET", f"{DEFAULT}/configmaps/c")
    assert status == 404 and missing["message"] == 'configmaps "c" not found' and missing["reason"] == "NotFound"
    assert missing["details"] == {"name": "c", "kind": "configmaps"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"1",
        b'"text"',
        b"[]",
        b"{",
        b"\xff\xfe",
        b'{"metadata":null}',
        b'{"metadata":[]}',
        b'{"metadata":{"name":7}}',
        b'{"metadata":{"name":"x","labels":"y"}}',
        b'{"data":NaN,"metadata":{"name":"x"}}',
        b'{"metadata":{"name":"x","generation":1e999}}',
        b'{"metadata":{"name":"x"},"data":{"k":"\\ud800"}}',
        b'{"metadata":{"name":"x"},"data":{"k":"\xed\xa0\x80"}}',
        b'{"metadata":{"name":"x"},"data":' + b"[" * 200 + b"]" * 200 + b"}",
        b'{"a":' * 100_000,
        b"9" * 5000,
        b'{"kind":{},"metadata":{"name":"x"}}',
        b'{"kind":"Pod","metadata":{"name":"x"}}',
        b'{"apiVersion":"v2","metadata":{"name":"x"}}',
    ],
)
def test_a_body_that_is_no_object_of_this_kind_is_a_bad_request(body: bytes) -> None:
    @with_api
    async def run(api: Api) -> None:
        for method, target, media in (
            ("POST", f"{DEFAULT}/configmaps", "application/json"),
            ("PUT", f"{DEFAULT}/configmaps/x", "application/json"),
        ):
            status, answer = await api(method, target, body, content_type=media)
            assert status in (400, 404, 422), answer
            assert answer["kind"] == "Status" and answer["code"] == status and answer["message"]
        assert (await api("GET", f"{DEFAULT}/configmaps/x"))[0] == 404

    run()


@with_api
async def test_a_body_over_the_limit_is_refused_and_so_is_an_object_over_the_stores(api: Api) -> None:
    status, answer = await api("POST", f"{DEFAULT}/configmaps", b" " * (3 * 1024 * 1024 + 1))
    assert (status, answer["reason"]) == (413, "RequestEntityTooLarge")
    big = {**configmap("big"), "metadata": {"name": "big", "managedField": "x"}, "extra": "x" * 2_000_000}
    status, answer = await api("POST", f"{DEFAULT}/configmaps", big)
    assert status == 413 and "more than the limit" in answer["message"]


@with_api
async def test_protobuf_is_taken_as_a_body_and_answered_with_json(api: Api) -> None:
    proto = "application/vnd.kubernetes.protobuf"
    status, answer = await api("POST", f"{DEFAULT}/configmaps", b"k8s\0", content_type=proto)
    assert status == 400 and "not an object in protobuf" in answer["message"]
    status, answer = await api("POST", f"{DEFAULT}/configmaps", b"k8s\0", content_type="application/cbor")
    assert status == 415 and "accepted media types include: application/json" in answer["message"]
    body = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x10\x0a\x05\x0a\x03sky\x12\x07\x0a\x01k\x12\x02ok"
    status, answer = await api(
        "POST", f"{DEFAULT}/configmaps", body, content_type=proto, accept=f"{proto},application/json"
    )
    assert status == 201 and answer["data"] == {"k": "ok"} and answer["metadata"]["name"] == "sky"
    assert (await api("GET", f"{DEFAULT}/configmaps", accept=f"{proto}, application/json"))[0] == 200
    assert (await api("GET", f"{DEFAULT}/configmaps", accept=proto))[0] == 406


@with_api
async def test_yaml_is_accepted_without_its_traps(api: Api) -> None:
    yaml = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: y}\ndata:\n  day: 2026-01-01\n"
    status, answer = await api("POST", f"{DEFAULT}/configmaps", yaml, content_type="application/yaml")
    assert status == 201 and answer["data"] == {"day": "2026-01-01"}
    for trap in (b"a: &a [x, x]\nb: [*a, *a]\n", b"!!python/object/apply:os.system [id]", b"a: [" * 200, b"x: .inf"):
        status, answer = await api("POST", f"{DEFAULT}/configmaps", trap, content_type="application/yaml")
        assert status == 400, answer


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/api/v2/pods", 404),
        ("GET", "/apis/batch/v1/jobs", 404),
        ("GET", "/api/v1/namespaces/default/nodes", 404),
        ("GET", "/api/v1/pods/p", 404),
        ("GET", "/api/v1/namespaces/default/pods/p/nope", 404),
        ("GET", "/api/v1/namespaces/default/pods/p/log/extra", 404),
        ("GET", "/api/v1/namespaces/default/pods/%ff", 400),
        ("GET", "/api/v1/namespaces/..%2F..%2Fb/pods/x", 404),
        ("GET", "/api/v1/pods?limit=x", 400),
        ("GET", "/api/v1/pods?limit=", 400),
        ("GET", "/api/v1/pods?timeoutSeconds=abc", 400),
        ("GET", "/api/v1/pods?resourceVersion=-1", 400),
        ("GET", "/api/v1/pods?resourceVersion=9223372036854775808", 400),
        ("GET", "/api/v1/pods/?resourceVersion=1%00", 400),
        ("GET", "/api/v1/pods?resourceVersionMatch=Exact", 400),
        ("GET", "/api/v1/pods?resourceVersion=0&resourceVersionMatch=Exact", 400),
        ("GET", "/api/v1/pods?resourceVersion=1&resourceVersionMatch=Sometime", 400),
        ("GET", "/api/v1/pods?resourceVersion=1&continue=eyJydiI6IDEsICJzdGFydCI6ICIifQ==", 400),
        ("GET", "/api/v1/namespaces/default?resourceVersion=-1", 400),
        ("GET", "/api/v1/pods?labelSelector=a%20b", 400),
        ("GET", "/api/v1/pods?fieldSelector=x%3D1", 400),
        ("GET", "/api/v1/pods?continue=x", 400),
        ("GET", "/api/v1/pods?watch=1&resourceVersion=x", 400),
        ("GET", "/api/v1/pods?watch&resourceVersion=-1", 400),
        ("GET", "/api/v1/pods?watch=1&timeoutSeconds=abc", 400),
        ("GET", "/api/v1/pods?labelSelector=%00", 400),
        ("GET", "/api/v1/pods?labelSelector=a%20in%20%28", 400),
        ("GET", "/api/v1/pods?fieldSelector=metadata.name", 400),
        ("GET", "/api/v1/pods?watch=1&fieldSelector=x%3D1", 400),
        ("POST", "/api/v1/namespaces/default/pods/p", 405),
        ("POST", "/api/v1/pods", 400),
        ("PUT", "/api/v1/namespaces/default/pods", 405),
        ("DELETE", "/api/v1/pods", 405),
        ("DELETE", "/version", 405),
        ("BREW", "/api/v1/namespaces/default/pods/p", 405),
        ("POST", "/api/v1/namespaces/default/pods/p/exec", 404),
        ("PATCH", "/api/v1/namespaces/default/pods/p", 415),
        ("DELETE", "/api/v1/namespaces/default/pods/p?gracePeriodSeconds=abc", 400),
        ("DELETE", "/api/v1/namespaces/default/pods/p?gracePeriodSeconds=4611686018427387904", 400),
        ("DELETE", "/api/v1/namespaces/default/pods/p?propagationPolicy=Sideways", 400),
        ("DELETE", "/api/v1/namespaces/default/pods/p?dryRun=Some", 400),
        ("GET", "/api/v1/namespaces/default/pods/p/log", 404),
        ("PUT", "/api/v1/namespaces/default/pods/p/log", 405),
        ("DELETE", "/api/v1/namespaces/default", 403),
    ],
)
def test_what_cannot_be_done_is_answered_with_a_status(method: str, target: str, expected: int) -> None:
    @with_api
    async def run(api: Api) -> None:
        answer = await api.raw(method, target, b'{"metadata":{"name":"p"}}' if method == "POST" else b"")
        assert answer.status == expected, answer.body
        assert isinstance(answer.body, bytes) and json.loads(answer.body)["code"] == expected

    run()


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        (None, 401),
        ("https://example.com", 401),
        ("spiffe://kubeedge/tenant/a/node/edge1", 403),
        ("spiffe://kubeedge/cloud/hub", 403),
        ("spiffe://kubeedge/tenant/nobody/user/admin", 403),
        ("spiffe://kubeedge/tenant/a/user/x", 200),
    ],
)
def test_only_users_with_a_certificate_of_a_tenant_come_in(uri: str | None, expected: int) -> None:
    @with_api
    async def run(api: Api) -> None:
        for target in ("/api/v1/pods", "/version", "/api", "/openapi/v2"):
            assert (await api("GET", target, uri=uri))[0] == expected
        assert await api("GET", "/healthz", uri=uri) == (200, b"ok")

    run()


@with_api
async def test_no_request_reaches_another_tenant(api: Api) -> None:
    await api("POST", f"{DEFAULT}/configmaps", configmap("secret", owner="a"))
    other = "spiffe://kubeedge/tenant/b/user/admin"
    assert (await api("GET", f"{DEFAULT}/configmaps/secret", uri=other))[0] == 404
    for target in (
        "/api/v1/configmaps",
        "/api/v1/configmaps?fieldSelector=metadata.name%3D..%2F..%2Fa",
        "/api/v1/configmaps?limit=1&continue=eyJydiI6IDksICJzdGFydCI6ICIuLi8uLi8uLi9hIn0=",
    ):
        status, answer = await api("GET", target, uri=other, x_tenant="a", x_remote_user="a")
        assert not answer.get("items"), (target, answer)


@with_api
async def test_a_table_is_given_when_kubectl_asks_for_one(api: Api) -> None:
    await api("POST", f"{DEFAULT}/configmaps", configmap("c", k="1"))
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
    status, table = await api("GET", f"{DEFAULT}/configmaps", accept=accept)
    assert table["kind"] == "Table" and table["apiVersion"] == "meta.k8s.io/v1"
    assert [c["name"] for c in table["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert table["rows"][0]["cells"][:2] == ["c", 1]
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    status, table = await api("GET", f"{DEFAULT}/configmaps?includeObject=Object", accept=accept.partition(",")[2])
    assert table["apiVersion"] == "meta.k8s.io/v1beta1" and table["rows"][0]["object"]["data"] == {"k": "1"}
    partial = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
    status, found = await api("GET", f"{DEFAULT}/configmaps", accept=partial)
    assert found["kind"] == "PartialObjectMetadataList" and "data" not in found["items"][0]


@contextlib.asynccontextmanager
async def watch(api: Api, target: str, **headers: str) -> AsyncIterator[Callable[[], Coroutine[Any, Any, Any]]]:
    answer = await api.raw("GET", target, **headers)
    assert answer.status == 200 and not isinstance(answer.body, bytes)
    body = answer.body

    async def following() -> Any:
        return json.loads(await asyncio.wait_for(anext(body), 60))

    try:
        yield following
    finally:
        await body.aclose()  # type: ignore[attr-defined]


@with_api
async def test_a_watch_streams_one_document_a_line(api: Api) -> None:
    async with watch(api, f"{DEFAULT}/configmaps?watch=true") as following:
        await api("POST", f"{DEFAULT}/configmaps", configmap("c"))
        event = await following()
        assert event["type"] == "ADDED" and event["object"]["metadata"]["name"] == "c"
    assert api.server.open_watches(TenantId("a")) == 0


@with_api
async def test_a_watch_of_a_table_names_its_columns_once(api: Api) -> None:
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
    async with watch(api, f"{DEFAULT}/configmaps?watch=true", accept=accept) as following:
        for name in ("c", "d"):
            await api("POST", f"{DEFAULT}/configmaps", configmap(name))
        first, second = await following(), await following()
    assert first["object"]["columnDefinitions"] and not second["object"]["columnDefinitions"]
    assert second["object"]["rows"][0]["cells"][0] == "d"


@with_api
async def test_a_watch_ends_after_its_timeout(api: Api) -> None:
    answer = await api.raw("GET", f"{DEFAULT}/configmaps?watch=true&timeoutSeconds=1")
    assert not isinstance(answer.body, bytes)
    assert [chunk async for chunk in answer.body] == []
    assert api.server.open_watches(TenantId("a")) == 0


@with_api
async def test_a_watch_that_nobody_reads_gives_its_slot_back(api: Api) -> None:
    answer = await api.raw("GET", f"{DEFAULT}/configmaps?watch=true")
    assert api.server.open_watches(TenantId("a")) == 1
    await answer.body.aclose()  # type: ignore[union-attr]
    assert api.server.open_watches(TenantId("a")) == 0
    assert (await api.raw("GET", "/api/v1/configmaps?watch=true&fieldSelector=no")).status == 400
    assert api.server.open_watches(TenantId("a")) == 0


@with_api
async def test_all_who_watch_get_the_same_bytes(api: Api) -> None:
    answers = [await api.raw("GET", f"{DEFAULT}/configmaps?watch=true") for _ in range(3)]
    await api("POST", f"{DEFAULT}/configmaps", configmap("c"))
    bodies: list[Any] = [answer.body for answer in answers]
    events = [await asyncio.wait_for(anext(body), 60) for body in bodies]
    assert all(event is events[0] for event in events)
    assert api.server.unread.of(TenantId("a")) == 4 * len(events[0])  # once, and in the buffers of each
    for body in bodies:
        await body.aclose()
    assert api.server.unread.of(TenantId("a")) == 0


@with_api
async def test_a_large_event_is_decoded_and_encoded_once_off_the_loop(api: Api) -> None:
    """40 who watch a ConfigMap of 1 MB: 80 decodings of some milliseconds, on the loop of all tenants."""
    registry = api.registries[TenantId("a")]
    registry._offload = Offload()
    await api("POST", f"{DEFAULT}/configmaps", configmap("c", a="x" * 1_000_000))
    target = f"{DEFAULT}/configmaps?watch=true&resourceVersion={api.store.revision}"
    answers = [await api.raw("GET", f"{target}&fieldSelector=metadata.namespace%3Ddefault") for _ in range(40)]
    bodies: list[Any] = [answer.body for answer in answers]
    waiting = [asyncio.create_task(anext(body)) for body in bodies]
    await asyncio.sleep(0)
    done: list[tuple[str, str]] = []
    decode, encode = meta.decode, meta.encode

    def decoded(data: bytes) -> Any:
        done.append(("decode", threading.current_thread().name.rpartition("_")[0]))
        return decode(data)

    def encoded(obj: Any) -> bytes:
        done.append(("encode", threading.current_thread().name.rpartition("_")[0]))
        return encode(obj)

    revision = api.store.revision
    key = f"{keys.registry(TenantId('a'))}core/configmaps/default/c"
    changed = encode(configmap("c", a="y" * 1_000_000)).replace(b'"name":', b'"namespace":"default","name":')
    meta.decode, meta.encode = decoded, encoded
    try:
        await api.store.put(key, changed)
        events = await asyncio.wait_for(asyncio.gather(*waiting), 60)
    finally:
        meta.decode, meta.encode = decode, encode
    assert all(event is events[0] for event in events) and b"MODIFIED" in events[0]
    assert sorted(done) == [("decode", "apiserver")] * 2 + [("encode", "apiserver")]  # as it was, as it is
    assert api.store.revision == revision + 1
    for body in bodies:
        await body.aclose()


@with_api
async def test_a_large_list_counts_until_it_is_read(api: Api) -> None:
    for n in range(3):
        await api("POST", f"{DEFAULT}/configmaps", {"metadata": {"name": f"c{n}"}, "data": {"k": "x" * 100_000}})
    answer = await api.raw("GET", f"{DEFAULT}/configmaps")
    length = int(dict(answer.headers)["content-length"])
    body: Any = answer.body
    pieces = [await anext(body)]
    assert api.server.unread.of(TenantId("a")) > length
    pieces += [piece async for piece in body]
    assert len(b"".join(pieces)) == length and len(json.loads(b"".join(pieces))["items"]) == 3
    assert api.server.unread.of(TenantId("a")) == 0


@with_api
async def test_a_tenant_with_too_many_watches_hears_of_it_and_the_other_does_not(api: Api) -> None:
    limit, server_module._MAX_WATCHES = server_module._MAX_WATCHES, 2
    try:
        async with watch(api, "/api/v1/pods?watch=1"), watch(api, "/api/v1/pods?watch=1"):
            assert (await api.raw("GET", "/api/v1/pods?watch=1")).status == 429
            other = "spiffe://kubeedge/tenant/b/user/x"
            answer = await api.raw("GET", "/api/v1/pods?watch=1", uri=other)
            assert answer.status == 200
            await answer.body.aclose()  # type: ignore[union-attr]
    finally:
        server_module._MAX_WATCHES = limit


@with_api
async def test_a_compacted_watch_ends_with_an_expired_status(api: Api) -> None:
    _, made = await api("POST", f"{DEFAULT}/configmaps", configmap("c"))
    await api("DELETE", f"{DEFAULT}/configmaps/c")
    await api.store.compact(api.store.revision)
    version = made["metadata"]["resourceVersion"]
    async with watch(api, f"{DEFAULT}/configmaps?watch=1&resourceVersion={version}") as following:
        event = await following()
    assert event["type"] == "ERROR" and event["object"]["code"] == 410 and event["object"]["reason"] == "Expired"


@with_api
async def test_unknown_fields_are_warned_about_in_a_header(api: Api) -> None:
    body = json.dumps({**configmap("c"), 'spe"c\u00e9\n': 1}).encode()
    answer = await api.raw("POST", f"{DEFAULT}/configmaps", body)
    assert answer.status == 201
    assert dict(answer.headers)["warning"] == '299 - "unknown field \\"spe\\"c??\\""'
    assert (await api.raw("POST", f"{DEFAULT}/configmaps?fieldValidation=Strict", body)).status == 400
    ignored = await api.raw("POST", f"{DEFAULT}/configmaps?fieldValidation=Ignore&dryRun=All", body)
    assert ignored.status == 409 and "warning" not in dict(ignored.headers)


@with_api
async def test_a_pod_is_bound_and_evicted_by_its_subresources(api: Api) -> None:
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    await api("POST", f"{DEFAULT}/pods", pod)
    binding = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "edge1"}}
    assert (await api("POST", f"{DEFAULT}/pods/p/binding", binding))[0] == 201
    assert (await api("POST", f"{DEFAULT}/pods/p/binding", binding))[0] == 409
    assert (await api("POST", f"{DEFAULT}/pods/p/binding", {"target": None}))[0] == 400
    assert (await api("POST", f"{DEFAULT}/pods/p/eviction", {"metadata": {"name": "p"}}))[0] == 201
    assert (await api("GET", f"{DEFAULT}/pods/p"))[1]["metadata"]["deletionTimestamp"]
    status, answer = await api("GET", f"{DEFAULT}/pods/p/log")
    assert status == 504 and "node edge1 cannot be reached: no link to edge1" in answer["message"]


@with_api
async def test_an_eviction_heeds_its_delete_options(api: Api) -> None:
    """`kubectl drain --dry-run=server` sends them in the body."""
    _, made = await api(
        "POST", f"{DEFAULT}/pods", {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    )
    for options, code in (
        ({"dryRun": ["All"]}, 201),
        ({"dryRun": ["Some"]}, 400),
        ({"preconditions": {"uid": "of another pod"}}, 409),
        ({"preconditions": {"resourceVersion": "1"}}, 409),
        ({"gracePeriodSeconds": "30"}, 400),
        (["All"], 400),
    ):
        found, _ = await api(
            "POST", f"{DEFAULT}/pods/p/eviction", {"metadata": {"name": "p"}, "deleteOptions": options}
        )
        assert found == code, options
        assert (await api("GET", f"{DEFAULT}/pods/p"))[1] == made, options
    assert (await api("POST", f"{DEFAULT}/pods/p/eviction", {"metadata": {"name": "q"}}))[0] == 400
    uid = {"preconditions": {"uid": made["metadata"]["uid"]}}
    assert (await api("POST", f"{DEFAULT}/pods/p/eviction", {"metadata": {"name": "p"}, "deleteOptions": uid}))[
        0
    ] == 201
    assert (await api("GET", f"{DEFAULT}/pods/p"))[0] == 404


@with_api
async def test_a_deletion_with_options_that_are_not_understood_deletes_nothing(api: Api) -> None:
    await api("POST", f"{DEFAULT}/configmaps", configmap("c"))
    for options in ({"dryRun": ["Some"]}, {"dryRun": "All"}, {"dryRun": ["All", "x"]}, {"preconditions": ["uid"]}):
        assert (await api("DELETE", f"{DEFAULT}/configmaps/c", options))[0] == 400, options
    assert (await api("DELETE", f"{DEFAULT}/configmaps/c", {"dryRun": ["All", "All"]}))[0] == 200
    assert (await api("GET", f"{DEFAULT}/configmaps/c"))[0] == 200


@with_api
async def test_access_reviews_allow_a_tenants_users_everything(api: Api) -> None:
    target = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    status, answer = await api("POST", target, {"spec": {"resourceAttributes": {"verb": "get"}}})
    assert answer["status"]["allowed"] is True
    status, answer = await api("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {})
    assert answer["status"]["userInfo"]["username"] == "admin"


@with_api
async def test_discovery_names_every_resource_in_both_forms(api: Api) -> None:
    _, core = await api("GET", "/api/v1")
    assert {"pods", "pods/log", "pods/status", "nodes", "namespaces"} <= {r["name"] for r in core["resources"]}
    _, groups = await api("GET", "/apis")
    assert [g["name"] for g in groups["groups"]] == [
        "apps",
        "coordination.k8s.io",
        "discovery.k8s.io",
        "metrics.k8s.io",
        "networking.k8s.io",
        "policy",
    ]
    status, policy = await api("GET", "/apis/policy/v1")
    assert (status, policy["resources"]) == (200, []), "an Eviction is a subresource of pods"
    assert (await api("GET", "/apis/policy/v1beta1"))[0] == 404
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
    answer = await api.raw("GET", "/apis", accept=accept)
    assert "as=APIGroupDiscoveryList" in dict(answer.headers)["content-type"]
    found = json.loads(answer.body)  # type: ignore[arg-type]
    deployments = next(r for r in found["items"][0]["versions"][0]["resources"] if r["resource"] == "deployments")
    assert {s["subresource"] for s in deployments["subresources"]} == {"status", "scale"}
    status, document = await api("GET", "/openapi/v3/apis/apps/v1")
    assert "/apis/apps/v1/namespaces/{namespace}/deployments/{name}" in document["paths"]
    assert (await api("GET", "/openapi/v3/apis/none/v1"))[0] == 404


@with_api
async def test_each_openapi_document_has_the_types_of_its_kinds(api: Api) -> None:
    custom = Row(Resource("example.com", "v1", "metas", "ObjectMeta"), "meta")  # named as one of our own types
    rows = (*BUILT_IN, custom)
    all_types = {}
    for group, version in Resources(rows).group_versions():
        document = json.loads(openapi.version_3(rows, group, version) or b"")
        types = all_types[group] = document["components"]["schemas"]
        kinds = {kind["kind"] for found in types.values() for kind in found.get("x-kubernetes-group-version-kind", ())}
        assert kinds == {row.resource.kind for row in rows if row.resource.group == group}
        referred = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
        assert referred <= set(types), referred - set(types)
    types = all_types["example.com"]
    assert "x-kubernetes-group-version-kind" not in types["ObjectMeta"]
    assert "x-kubernetes-group-version-kind" in types["example.com.v1.ObjectMeta"]
    status, core = await api("GET", "/openapi/v3/api/v1")
    containers = core["components"]["schemas"]["PodSpec"]["properties"]["containers"]
    assert containers["type"] == "array" and containers["items"] == {"$ref": "#/components/schemas/Container"}
    assert (await api("GET", "/openapi/v2"))[1]["definitions"] == {}


@with_api
async def test_a_user_may_do_everything_and_hears_so(api: Api) -> None:
    path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
    status, answer = await api("POST", path, {"spec": {"namespace": "default"}})
    assert status == 200 and answer["kind"] == "SelfSubjectRulesReview" and answer["spec"] == {"namespace": "default"}
    assert answer["status"]["resourceRules"] == [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]
    assert (await api("GET", path))[0] in (400, 404)


@with_api
async def test_a_failure_of_ours_tells_the_client_nothing(api: Api) -> None:
    class Broken(Registry):
        async def get(self, resource: Resource, namespace: str, name: str) -> Any:
            raise RuntimeError("the store's path is /secret")

    api.registries[TenantId("a")] = Broken(api.store, TenantId("a"))
    status, answer = await api("GET", f"{DEFAULT}/pods/p")
    assert status == 500 and "secret" not in json.dumps(answer)


PATHS = st.text("abp/%2.{}?&=", max_size=30).map(lambda text: "/" + text)
BODIES = st.one_of(
    st.binary(max_size=40),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["metadata", "name", "spec", "op", "path", "value", "target", "kind", "data"]), inner
            )
        ),
        max_leaves=10,
    ).map(lambda value: json.dumps(value).encode()),
)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE"]),
    PATHS
    | st.sampled_from(
        [f"{DEFAULT}/pods/p", f"{DEFAULT}/pods", f"{DEFAULT}/configmaps/c", "/api/v1/nodes/n", "/apis/apps/v1/namespaces/default/deployments/d/scale", f"{DEFAULT}/pods/p/binding"]
    ),
    BODIES,
    st.sampled_from(
        ["application/json", "application/json-patch+json", MERGE, "application/strategic-merge-patch+json", "application/apply-patch+yaml", "application/yaml", ";;", ""]
    ),
)  # fmt: skip
def test_no_request_makes_the_server_fail(method: str, target: str, body: bytes, media: str) -> None:
    @with_api
    async def run(api: Api) -> None:
        pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        await api.registries[TenantId("a")].create(PODS, "default", pod)
        await api.registries[TenantId("a")].create(CONFIGMAPS, "default", configmap("c"))
        separator = "&" if "?" in target else "?"
        answer = await api.raw(method, f"{target}{separator}fieldManager=x", body, content_type=media)
        assert answer.status < 500, answer.body
        if not isinstance(answer.body, bytes):
            await answer.body.aclose()  # type: ignore[attr-defined]

    run()


@pytest.mark.parametrize(
    ("error", "code", "reason", "wait"),
    [
        (status.TooManyRequests("wait", retry_after=6.2), 429, "TooManyRequests", "7"),
        (status.TooManyRequests("wait"), 429, "TooManyRequests", "1"),
        (Unavailable("the disk is full", retry_after=30.0), 503, "ServiceUnavailable", "30"),
        (Unavailable("away"), 503, "ServiceUnavailable", "1"),
        (status.Expired("old"), 410, "Expired", None),
        (status.AlreadyExists.of(PODS, "p"), 409, "AlreadyExists", None),
        (status.ObjectModified.of(PODS, "p"), 409, "Conflict", None),
    ],
)
def test_errors_are_those_of_an_api_server(error: Exception, code: int, reason: str, wait: str | None) -> None:
    answer = status_response(error)
    body = json.loads(answer.body)  # type: ignore[arg-type]
    assert (answer.status, body["code"], body["reason"]) == (code, code, reason)
    assert dict(answer.headers).get("retry-after") == wait
    if wait not in (None, "1"):
        assert body["details"]["retryAfterSeconds"] == int(wait)
