"""Requests through the web listener to pods: everything real but the KubeBus between the cloud and the node, which is a TCP connection."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import Any

import pytest

from kubeedge.api.names import NodeName, TenantId
from kubeedge.api.resources import SECRETS
from kubeedge.errors import Unavailable
from kubeedge.gateway.model import PodEndpoint
from kubeedge.gateway.pods import PodConnector
from kubeedge.kit.http1 import Connection
from kubeedge.kit.streams import abort_writer
from kubeedge.kit.tasks import cancel_and_wait
from kubeedge.kubebus.http.limits import ProxyLimits
from kubeedge.kubebus.pod_streams import PodStreams
from tests.unit.gateway.objects import CLASS, gateway, listener, path, route, rule, tls_secret
from tests.unit.gateway.site import HOST, TENANT, Site, running, story


@story
async def test_a_request_reaches_a_pod_and_its_answer_the_client(site: Site) -> None:
    await site.apply(CLASS, gateway(), route(hostnames=[HOST]))
    await site.serves()
    status, headers, seen = await site.ask("/a%2Fb?q=1", host=f"{HOST}:8080", method="POST", body=b"hello")
    assert (status, seen["pod"], seen["method"], seen["target"], seen["body"]) == (
        200, "web", "POST", "/a%2Fb?q=1", "hello"
    )  # fmt: skip
    assert headers["set-cookie"] == "a=1; Path=/"  # the host is its own: nothing is confined to a prefix
    fields = dict(seen["headers"])
    assert fields["host"] == f"{HOST}:8080" and fields["x-forwarded-for"] == "127.0.0.1"
    assert fields["x-forwarded-proto"] == "http" and "x-forwarded-prefix" not in fields
    assert (await site.ask(host="nobody.example"))[0] == 404
    assert (await site.ask("/default/n9/x/"))[0] == 200  # of a host that somebody has the paths are its own
    assert [r.target for r in site.seen][1:] == ["/default/n9/x/"]


@story
async def test_filters_redirects_and_rewrites(site: Site) -> None:
    modifier = {
        "set": [{"name": "X-Set", "value": "s"}],
        "add": [{"name": "X-Add", "value": "2"}],
        "remove": ["X-Gone"],
    }
    rewrite = {"hostname": "inner.example", "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/v2"}}
    rules = [
        rule(
            matches=[path("/v1")],
            filters=[
                {"type": "RequestHeaderModifier", "requestHeaderModifier": modifier},
                {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"remove": ["x-pod"]}},
                {"type": "URLRewrite", "urlRewrite": rewrite},
                {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "other", "port": 80}}},
            ],
        ),
        {
            "matches": [path("/old")],
            "filters": [{"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "statusCode": 301}}],
        },
    ]
    await site.apply(CLASS, gateway(), route(*rules, hostnames=[HOST]))
    await site.serves()
    status, headers, seen = await site.ask("/v1/x?q", X_Add="1", X_Gone="1", X_Set="mine")
    fields = dict(seen["headers"])
    assert status == 200 and seen["target"] == "/v2/x?q" and "x-pod" not in headers
    assert fields["host"] == "inner.example" and fields["x-set"] == "s" and fields["x-add"] == "1,2"
    assert "x-gone" not in fields
    async with asyncio.timeout(90):
        while [r.target for r in site.seen] != ["/v2/x?q"] * 2:
            await asyncio.sleep(0.01)
    status, headers, _ = await site.ask("/old/y?z")
    assert (status, headers["location"]) == (301, f"https://{HOST}/old/y?z")
    assert (await site.ask("/elsewhere"))[0] == 404


@story
async def test_the_host_of_an_absolute_target_is_the_one_that_the_pod_is_told(site: Site) -> None:
    old = {"matches": [path("/old")], "filters": [{"type": "RequestRedirect", "requestRedirect": {"statusCode": 301}}]}
    await site.apply(CLASS, gateway(), route(rule("web"), old, hostnames=[HOST]))
    await site.serves()
    status, _, seen = await site.ask(f"http://{HOST}:81/a?q", host="other.example")
    fields = dict(seen["headers"])
    assert (status, seen["target"], fields["host"], fields["x-forwarded-host"]) == (200, "/a?q", *[f"{HOST}:81"] * 2)
    assert "other.example" not in json.dumps(seen)
    status, headers, _ = await site.ask(f"http://{HOST}/old", host="other.example")
    assert (status, headers["location"]) == (301, f"http://{HOST}/old")
    assert (await site.ask(f"http://user@{HOST}/", host=HOST))[0] == 404


@story
async def test_weights_and_what_cannot_be_reached(site: Site) -> None:
    half = [{"name": "web", "port": 80, "weight": 1}, {"name": "other", "port": 80, "weight": 1}]
    rules = [
        {"matches": [path("/both")], "backendRefs": half},
        {"matches": [path("/none")], "backendRefs": [{"name": "web", "port": 80, "weight": 0}]},
        rule("absent-service", matches=[path("/absent")]),
        rule("dead", matches=[path("/dead")]),
        rule("far", matches=[path("/far")]),
        rule("slow", matches=[path("/slow")], timeouts={"request": "100ms"}),
    ]
    await site.apply(CLASS, gateway(), route(*rules, hostnames=[HOST]))
    await site.serves()
    pods = [(await site.ask("/both"))[2]["pod"] for _ in range(64)]
    assert set(pods) == {"web", "other"}  # 2 to the power of -63 that it is one alone
    for target, wanted in (("/none", 500), ("/absent", 500), ("/dead", 502), ("/far", 502), ("/slow", 504)):
        status, _, body = await site.ask(target)
        assert (status, "error" in body) == (wanted, True), (target, status, body)
    for target in ("/both/../none", "/both/%2e%2E/none", "/both/."):
        assert (await site.ask(target))[0] == 400
    # nothing of all that holds a slot or a connection to a pod
    assert (slow := site.web._slow) is not None
    async with asyncio.timeout(90):
        while slow.slots.in_progress():
            await asyncio.sleep(0.01)


def test_a_pod_that_is_not_reached_in_time_has_a_reason() -> None:
    """A TimeoutError has no words of its own."""

    async def hangs(tenant: TenantId, endpoint: PodEndpoint) -> Any:
        raise TimeoutError

    async def scenario() -> None:
        pods = PodConnector(hangs, 10.0)
        with pytest.raises(Unavailable, match=r"^no pod could be reached: TimeoutError$"):
            await pods.reach(TENANT, [PodEndpoint(NodeName("n1"), "10.244.1.2", 80)])

    asyncio.run(scenario())


@story
async def test_without_a_host_routes_are_below_published_services(site: Site) -> None:
    await site.apply(CLASS, gateway(), route(name="any"))
    await site.serves("*")
    assert (await site.ask("/x", host="whatever.example"))[2]["target"] == "/x"
    status, _, body = await site.ask("/default/n9/cam/", host="whatever.example")
    assert status == 404 and body["node"] == "n9"  # the answer of a published service that is not there


def test_requests_of_a_tenant_count_together_whatever_way_they_go() -> None:
    async def scenario() -> None:
        async with running(Site(limits=ProxyLimits(concurrent=1, connect=60, answer=60))) as site:
            await site.apply(CLASS, gateway(), route(rule("slow"), hostnames=[HOST]))
            await site.serves()
            first = asyncio.create_task(site.ask())
            async with asyncio.timeout(90):
                while not site.seen:
                    await asyncio.sleep(0.01)
            assert (await site.ask())[0] == 503
            await cancel_and_wait(first)
            (refused,) = (f for f in site.web.metrics() if f.name == "kubeedge_publishing_refused_total")
            assert {s.labels["tenant"]: s.value for s in refused.samples}["default"] == 1

    asyncio.run(scenario())


def test_a_handshake_gets_the_certificate_of_its_host() -> None:
    async def scenario() -> None:
        own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        async with running(Site(tls=own)) as site:
            secret, authority = tls_secret("tls", HOST)
            await site.api.create(SECRETS, "default", secret)
            tls = {"certificateRefs": [{"name": "tls"}]}
            secure = gateway(listener(port=443, protocol="HTTPS", tls=tls))
            await site.apply(CLASS, secure, route(hostnames=[HOST]))
            await site.serves()
            context = ssl.create_default_context(cadata=authority.decode())
            assert site.web.address is not None
            where = site.web.address
            streams = await asyncio.open_connection(*where, ssl=context, server_hostname=HOST)
            connection = Connection(*streams)
            answer = await connection.request("GET", "/x", [("host", HOST)])
            seen = json.loads(await answer.read(1 << 20))
            assert seen["pod"] == "web" and dict(seen["headers"])["x-forwarded-proto"] == "https"
            await connection.close()
            with pytest.raises(OSError):  # the cloud has no certificate of its own here
                await asyncio.open_connection(*where, ssl=context, server_hostname="nobody.example")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"127.0.0.2 80\n", b"this node has no pod 127.0.0.2\n"),
        (b"127.0.0.1 99999\n", b"this node has no pod 127.0.0.1\n"),
        (b"localhost 80\n", b"not ADDRESS PORT\n"),
        (b"\n", b"not ADDRESS PORT\n"),
        (b"127.0.0.1 1\n", b"[Errno 111]"),
        (b"x" * 200_000, b""),
    ],
)
def test_a_node_connects_the_cloud_to_its_own_pods_alone(line: bytes, answer: bytes) -> None:
    async def scenario() -> bytes:
        async with running(Site()) as site:
            reader, writer = await asyncio.open_connection("127.0.0.1", site.node)
            try:
                writer.write(line)
                writer.write_eof()
                return await asyncio.wait_for(reader.read(1000), 60)
            except OSError:
                return b""
            finally:
                abort_writer(writer)

    assert asyncio.run(scenario()).startswith(answer)


def test_nodes_may_not_ask_a_node_for_its_pods() -> None:
    class Writer:
        aborted = False

        def get_extra_info(self, name: str) -> tuple[int, int]:
            return (3, 10252)

        @property
        def transport(self) -> Writer:
            return self

        def abort(self) -> None:
            self.aborted = True

    async def scenario() -> bool:
        writer = Writer()
        streams = PodStreams(lambda address: True, nodes=255, most=8)
        await streams.handle(asyncio.StreamReader(), writer)  # type: ignore[arg-type]
        return writer.aborted

    assert asyncio.run(scenario())


@story
async def test_an_error_for_head_does_not_describe_a_body(site: Site) -> None:
    await site.apply(CLASS, gateway(), route(rule(matches=[path("/there")]), hostnames=[HOST]))
    await site.serves()
    for method, described in (("GET", True), ("HEAD", False)):
        status, headers, _ = await site.ask("/elsewhere", method=method)
        assert status == 404 and ("content-type" in headers) == described
