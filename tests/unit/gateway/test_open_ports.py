"""Ports that Gateways have besides the web listener: HTTP, TLS by name, TCP, at addresses of their own and at those of the cloud."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from kubeedge.api import gateway as kinds
from kubeedge.api.names import Object
from kubeedge.api.resources import SECRETS
from kubeedge.errors import PeerError
from kubeedge.kubebus.http.limits import ProxyLimits
from kubeedge_cloud.gateway.ports import GatewayPorts
from tests.kit.certs import Credentials, TestAuthority
from tests.kit.ports import ADDRESS, MORE, ports
from tests.unit.gateway.objects import CLASS, conditions, gateway, listener, named, route, tls_secret
from tests.unit.gateway.site import Site, running

OWN, SECOND = MORE


def tls_of(host: str, directory: str) -> Credentials:
    return TestAuthority(Path(directory)).issue(host, hosts=[host])


def stream(kind: str, name: str, service: str, *, hostnames: list[str] | None = None, **parent: object) -> Object:
    spec: Object = {
        "parentRefs": [{"name": "edge", **parent}],
        "rules": [{"backendRefs": [{"name": service, "port": 80}]}],
        **({"hostnames": hostnames} if hostnames else {}),
    }
    return {**named(name, spec), "kind": kind}


def at(port: int, protocol: str, name: str = "one", **more: object) -> Object:
    return listener(name, port=port, protocol=protocol, **more)


@contextlib.asynccontextmanager
async def cloud(
    shared: dict[int, str] | None = None, addresses: tuple[str, ...] = (OWN, SECOND), concurrent: int = 64
) -> AsyncIterator[Site]:
    """With a certificate of its own for names without one."""
    with tempfile.TemporaryDirectory() as directory:
        issued = tls_of("cloud.example", directory)

        def make_tls() -> ssl.SSLContext:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(issued.cert, issued.key)
            return context

        where = GatewayPorts(http=frozenset((80,)), shared=shared or {}, addresses=addresses, per_tenant=len(addresses))
        limits = ProxyLimits(connect=60, answer=60, concurrent=concurrent)
        async with running(Site(ports=where, make_tls=make_tls, limits=limits, address=ADDRESS)) as site:
            yield site


async def status_of(site: Site, name: str = "edge") -> Object:
    return dict((await site.api.get(kinds.GATEWAYS, "default", name)).get("status") or {})


async def programmed(site: Site, name: str = "edge", want: str = "Programmed") -> Object:
    """The status once that condition has that reason."""
    async with asyncio.timeout(90):
        while True:
            status = await status_of(site, name)
            if status.get("conditions") and conditions(status)["Programmed"] == want:
                return status
            await asyncio.sleep(0.02)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A pod that repeats a line after its name."""
    writer.write(b"pod " + await reader.readline())
    writer.close()


async def says(
    where: tuple[str, int], tls: ssl.SSLContext | None = None, name: str = "", line: bytes = b"hello\n"
) -> bytes:
    """What comes back until the end; b"" for a connection that is cut."""
    try:
        reader, writer = await asyncio.open_connection(*where, ssl=tls, server_hostname=name or None)
        writer.write(line)
        found = await reader.read()
        writer.close()
        return found
    except OSError:
        return b""


async def eventually(ask: Callable[[], object], want: object) -> None:
    found: object = None
    async with asyncio.timeout(90):
        while found != want:
            found = await ask()  # type: ignore[misc]
            await asyncio.sleep(0.02)


def trusting(pem: bytes) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=pem.decode())


def test_a_gateway_with_an_address_of_its_own_has_every_host_there() -> None:
    async def scenario() -> None:
        async with cloud() as site:
            port = ports(1)[0]
            await site.apply(CLASS, gateway(at(port, "HTTP")), route())
            status = await programmed(site)
            assert [a["value"] for a in status["addresses"]] == [OWN]
            await eventually(lambda: answered(site, (OWN, port), "any.example"), 200)
            # and nothing of it is at the cloud's own addresses
            assert (await site.ask("/", host="any.example"))[0] == 404

    asyncio.run(scenario())


async def answered(site: Site, where: tuple[str, int], host: str, tls: ssl.SSLContext | None = None) -> int:
    try:
        return (await site.ask_at(where, "/", host=host, tls=tls))[0]
    except (OSError, PeerError):  # cut off with its port
        return 0


def test_two_gateways_with_the_same_listener_are_apart() -> None:
    async def scenario() -> None:
        async with cloud() as site:
            port = ports(1)[0]
            await site.apply(CLASS, gateway(at(port, "HTTP")), gateway(at(port, "HTTP"), name="second"))
            first, second = await programmed(site), await programmed(site, "second")
            assert [a["value"] for s in (first, second) for a in s["addresses"]] == [OWN, SECOND]
            await site.apply(route())
            await eventually(lambda: answered(site, (OWN, port), "any.example"), 200)
            assert await answered(site, (SECOND, port), "any.example") == 404

    asyncio.run(scenario())


def test_a_more_specific_listener_hides_what_is_attached_to_another() -> None:
    async def scenario() -> None:
        async with cloud() as site:
            port = ports(1)[0]
            listeners = [at(port, "HTTP"), at(port, "HTTP", "two", hostname="a.example")]
            await site.apply(CLASS, gateway(*listeners), route(sectionName="one"))
            await programmed(site)
            await eventually(lambda: answered(site, (OWN, port), "b.example"), 200)
            assert await answered(site, (OWN, port), "a.example") == 404

    asyncio.run(scenario())


def test_tls_ends_at_the_listener_with_its_own_certificate() -> None:
    async def scenario() -> None:
        async with cloud() as site:
            port = ports(1)[0]
            secret, ca = tls_secret("cert", "shop.example")
            await site.api.create(SECRETS, "default", secret)
            tls = {"certificateRefs": [{"name": "cert"}]}
            await site.apply(CLASS, gateway(at(port, "HTTPS", tls=tls)), route())
            await programmed(site)
            await eventually(lambda: answered(site, (OWN, port), "shop.example", trusting(ca)), 200)

    asyncio.run(scenario())


async def attached(site: Site) -> int:
    """Routes of the first listener."""
    return int((await status_of(site))["listeners"][0]["attachedRoutes"])


def test_a_port_of_tcp_leads_to_a_pod() -> None:
    async def scenario() -> None:
        async with cloud() as site:
            port = ports(1)[0]
            await site.pod("echo", echo)
            await site.apply(CLASS, gateway(at(port, "TCP")), stream("TCPRoute", "db", "echo"))
            await programmed(site)
            await eventually(lambda: says((OWN, port)), b"pod hello\n")
            await site.apply(stream("TCPRoute", "later", "absent"))  # the older one has the port
            await eventually(lambda: attached(site), 2)
            assert await says((OWN, port)) == b"pod hello\n"

    asyncio.run(scenario())


def test_tls_passes_through_by_its_name_and_ends_here_for_another() -> None:
    """Three listeners at one port: TLS for a pod as it is, TLS that ends here, and HTTPS."""

    async def scenario() -> None:
        with tempfile.TemporaryDirectory() as directory:
            issued = tls_of("pass.example", directory)
            pod = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            pod.load_cert_chain(issued.cert, issued.key)
            async with cloud() as site:
                port = ports(1)[0]
                await site.pod("secret", echo, tls=pod)
                await site.pod("echo", echo)
                secret, ca = tls_secret("cert", "ends.example")
                web, web_ca = tls_secret("web-cert", "web.example")
                for found in (secret, web):
                    await site.api.create(SECRETS, "default", found)
                listeners = [
                    at(port, "TLS", "pass", hostname="pass.example", tls={"mode": "Passthrough"}),
                    at(port, "TLS", "ends", hostname="ends.example", tls={"certificateRefs": [{"name": "cert"}]}),
                    at(port, "HTTPS", "web", hostname="web.example", tls={"certificateRefs": [{"name": "web-cert"}]}),
                ]
                await site.apply(
                    CLASS, gateway(*listeners), route(sectionName="web"),
                    stream("TLSRoute", "pass", "secret", hostnames=["pass.example"]),
                    stream("TLSRoute", "ends", "echo", hostnames=["ends.example"]),
                )  # fmt: skip
                await programmed(site)
                where = OWN, port
                await eventually(lambda: says(where, trusting(issued.ca.read_bytes()), "pass.example"), b"pod hello\n")
                await eventually(lambda: says(where, trusting(ca), "ends.example"), b"pod hello\n")
                await eventually(lambda: answered(site, where, "web.example", trusting(web_ca)), 200)
                # a name of nobody gets nothing, and so does what is no TLS
                assert await says(where, trusting(ca), "other.example") == b""
                assert await says(where, line=b"GET / HTTP/1.1\r\n\r\n") == b""

    asyncio.run(scenario())


def test_a_port_of_the_cloud_is_for_the_hosts_that_the_tenant_has() -> None:
    async def scenario() -> None:
        tls_port, tcp_port = ports(2)
        async with cloud({tls_port: "TLS", tcp_port: "TCP"}, ()) as site:
            secret, ca = tls_secret("cert", "shop.example")
            await site.api.create(SECRETS, "default", secret)
            await site.pod("echo", echo)
            tls = {"certificateRefs": [{"name": "cert"}]}
            await site.apply(
                CLASS, gateway(at(tls_port, "HTTPS", tls=tls), at(tcp_port, "TCP", "two")),
                route(hostnames=["shop.example"]), stream("TCPRoute", "db", "echo", sectionName="two"),
            )  # fmt: skip
            await programmed(site)
            await eventually(lambda: answered(site, (ADDRESS, tls_port), "shop.example", trusting(ca)), 200)
            await eventually(lambda: says((ADDRESS, tcp_port)), b"pod hello\n")

    asyncio.run(scenario())


def test_a_port_that_is_in_use_is_a_condition_until_it_is_free() -> None:
    async def scenario() -> None:
        server = await asyncio.start_server(echo, OWN, 0)
        port = int(server.sockets[0].getsockname()[1])
        async with cloud() as site:
            await site.apply(CLASS, gateway(at(port, "HTTP")), route())
            status = await programmed(site, want="!Invalid")
            assert conditions(status["listeners"][0])["Accepted"] == "!PortUnavailable"
            server.close()
            await server.wait_closed()
            await programmed(site)

    asyncio.run(scenario())


def test_a_port_is_closed_with_its_gateway() -> None:
    async def scenario() -> None:
        async with cloud() as site:
            port = ports(1)[0]
            await site.apply(CLASS, gateway(at(port, "HTTP")), route())
            await programmed(site)
            await eventually(lambda: answered(site, (OWN, port), "any.example"), 200)
            await site.api.delete(kinds.GATEWAYS, "default", "edge")
            await eventually(lambda: answered(site, (OWN, port), "any.example"), 0)

    asyncio.run(scenario())


def test_streams_count_to_the_requests_of_their_tenant() -> None:
    async def scenario() -> None:
        async with cloud(concurrent=1) as site:
            port = ports(1)[0]
            await site.pod("echo", echo)
            await site.apply(CLASS, gateway(at(port, "TCP")), stream("TCPRoute", "db", "echo"))
            await programmed(site)
            await eventually(lambda: says((OWN, port)), b"pod hello\n")
            reader, writer = await asyncio.open_connection(OWN, port)  # says nothing, and stays
            await eventually(lambda: _cut((OWN, port)), True)
            writer.write(b"late\n")
            assert await reader.read() == b"pod late\n"
            writer.close()

    asyncio.run(scenario())


async def _cut(where: tuple[str, int]) -> bool:
    return await says(where) == b""


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ([{"type": "IPAddress", "value": SECOND}], "Programmed"),
        ([{"type": "IPAddress"}], "Programmed"),
        ([{"value": "192.0.2.1"}], "!AddressNotUsable"),
        ([{"type": "Hostname", "value": "a.example"}], "!UnsupportedAddress"),
    ],
)
def test_a_gateway_may_ask_for_an_address(wanted: list[Object], reason: str) -> None:
    async def scenario() -> None:
        async with cloud() as site:
            asking = gateway(at(ports(1)[0], "HTTP"))
            asking["spec"]["addresses"] = wanted
            await site.apply(CLASS, asking)
            status = await programmed(site, want=reason)
            value = wanted[0].get("value") or OWN
            assert [a["value"] for a in status["addresses"]] == ([value] if reason == "Programmed" else [])

    asyncio.run(scenario())
