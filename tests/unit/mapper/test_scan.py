"""Scans: Modbus units against pymodbus, services of multicast DNS against zeroconf, the bounds, and answers that lie."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pymodbus import ModbusDeviceIdentification
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice
from zeroconf import ServiceInfo
from zeroconf.asyncio import AsyncZeroconf

from kubeedge.cli.show import as_json
from kubeedge.devices.scans import core as scans
from kubeedge.errors import Invalid, PeerError
from kubeedge.mapper.scan import core, dns_records, driver
from kubeedge.mapper.scan.core import Finding, ScanRequest, ScanResult
from kubeedge.mapper.scan.finder import FINDERS, PacketsSpent, ScanScope, finder
from kubeedge.mapper.scan.mdns import MdnsFinder
from kubeedge.mapper.scan.modbus import ModbusFinder, identification

IDENTITY = ModbusDeviceIdentification(info_name={"VendorName": "Acme", "ProductCode": "T1", "MajorMinorRevision": "3"})


@contextlib.asynccontextmanager
async def modbus(host: str, **more: object) -> AsyncIterator[int]:
    device = SimDevice(7, simdata=[SimData(0, values=[215, 20], datatype=DataType.REGISTERS)])
    server = ModbusTcpServer(device, address=(host, 0), **more)
    serving = asyncio.create_task(server.serve_forever(background=True))
    try:
        await serving
        assert server.transport is not None
        yield server.transport.sockets[0].getsockname()[1]
    finally:
        await server.shutdown()


async def looked(one: ModbusFinder | MdnsFinder, request: ScanRequest) -> ScanResult:
    result = ScanResult()
    async with asyncio.timeout(60):
        await one.find(ScanScope(request, result))
    return result


def test_units_of_modbus_that_answer_are_found_with_what_they_say_of_themselves() -> None:
    async def run() -> None:
        async with modbus("127.0.0.2", identity=IDENTITY) as port:
            request = ScanRequest(networks=core.networks(["127.0.0.0/29"]), units=(1, 7))
            result = await looked(ModbusFinder(port), request)
            (found,) = [finding.as_json() for finding in result.findings]
            assert found["config"]["host"] == "127.0.0.2" and found["protocol"] == "modbus"
            assert found["info"] == {"vendor": "Acme", "product": "T1", "revision": "3"}
            assert found["name"].startswith("modbus-127-0-0-2-")

    asyncio.run(run())


def test_a_device_that_knows_no_identification_is_asked_for_a_register() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Unit 9 has registers, says nothing to what it does not know, and is the only one."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                transaction, _, length, unit = struct.unpack(">HHHB", await reader.readexactly(7))
                pdu = await reader.readexactly(length - 1)
                if unit == 9 and pdu[0] == 3:
                    writer.write(struct.pack(">HHHBBBH", transaction, 0, 5, unit, 3, 2, 215))
                elif unit != 9:
                    writer.write(struct.pack(">HHHBBB", transaction, 0, 3, unit, pdu[0] | 0x80, 11))
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            request = ScanRequest(networks=core.networks(["127.0.0.1"]), units=(1, 9))
            result = await looked(ModbusFinder(port), request)
            assert [finding.config["slaveID"] for finding in result.findings] == [9]

    asyncio.run(run())


def test_services_of_multicast_dns_are_found_in_the_networks_that_were_asked_for() -> None:
    async def run() -> None:
        zeroconf = AsyncZeroconf(interfaces=["127.0.0.1"])
        try:
            for kind, port, name in (
                ("_opcua-tcp._tcp.local.", 4840, "Boiler 1.2"),
                ("_http._tcp.local.", 80, "Meter"),
                ("_ipp._tcp.local.", 631, "Printer"),
            ):
                await zeroconf.async_register_service(
                    ServiceInfo(
                        kind, f"{name}.{kind}", addresses=[socket.inet_aton("127.0.0.1")], port=port,
                        properties={"path": "/ua", "evil": "\x1b[2J"}, server="boiler.local.",
                    )
                )  # fmt: skip
            result = await looked(MdnsFinder(), ScanRequest(networks=core.networks(["127.0.0.0/8"])))
            found = {finding.name: finding.as_json() for finding in result.findings}
            assert set(found) == {"opcua-127-0-0-1-4840", "http-127-0-0-1-80"}
            boiler = found["opcua-127-0-0-1-4840"]
            assert boiler["config"] == {"url": "opc.tcp://127.0.0.1:4840/ua"}
            assert boiler["info"]["service"] == "Boiler 1.2" and boiler["info"]["evil"] == "?[2J"
        finally:
            await zeroconf.async_close()
        with pytest.raises(OSError, match="no address in"):
            await looked(MdnsFinder(), ScanRequest(networks=core.networks(["127.99.0.0/16"])))

    asyncio.run(run())


def test_a_scan_ends_by_packets_and_by_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless:
        def wants(self, request: ScanRequest) -> bool:
            return True

        async def find(self, scope: ScanScope) -> None:
            while True:
                await scope.packet()
                scope.found(Finding("endless", "acme", f"{scope.packets}", {}))

    async def run() -> None:
        monkeypatch.setattr(driver, "finder", lambda name: Endless())
        networks = core.networks(["127.0.0.1"])
        by_packets = await driver.scan(ScanRequest(networks=networks, finders=["mdns"], packets=30))
        assert by_packets.errors == {"mdns": "ended after 30 packets"} and len(by_packets.findings) == 30
        by_seconds = await driver.scan(ScanRequest(networks=networks, finders=["mdns"], seconds=0.2))
        assert by_seconds.errors == {} and by_seconds.findings
        with pytest.raises(Invalid, match="'acme' is none of modbus, mdns"):
            await driver.scan(ScanRequest(networks=networks, finders=["acme"]))

    asyncio.run(run())


def test_nothing_is_asked_that_nobody_asked_for() -> None:
    async def run() -> None:
        with pytest.raises(Invalid, match="say a network .* or a Bluetooth adapter"):
            await driver.scan(ScanRequest())
        scope = ScanScope(ScanRequest(packets=1), ScanResult())
        await scope.packet()
        with pytest.raises(PacketsSpent):
            await scope.packet()

    asyncio.run(run())
    request = ScanRequest(networks=core.networks(["192.168.1.0/24", "fd00::/120"]))
    assert [request.covers(a) for a in ("192.168.1.9", "192.168.2.9", "fd00::1%eth0", "x")] == [
        True,
        False,
        True,
        False,
    ]
    for wrong, why in ((["10.0.0.0/8"], "more than 4096"), (["x"], "no network"), (["10.0.0.0/32"] * 17, "at most 16")):
        with pytest.raises(Invalid, match=why):
            core.hosts(ScanRequest(networks=core.networks(wrong)))
    for adapter in ("hci0;", "wlan0"):
        with pytest.raises(Invalid, match="no Bluetooth adapter"):
            core.radios([adapter])
    assert all(finder(name) for name in FINDERS)


def test_what_is_found_is_kept_once_and_up_to_a_number() -> None:
    result = ScanResult(most=2)
    findings = [Finding("modbus", "modbus", f"10.0.0.{n % 3}-1", {}) for n in range(6)]
    assert [result.add(one) for one in findings] == [True, True, False, False, False, False]
    assert result.left_out == 2 and [one.name for one in result.findings] == ["modbus-10-0-0-0-1", "modbus-10-0-0-1-1"]
    assert (
        Finding("x", "OPC UA", "[fe80::1%1]/Ünïcode" * 9, {}).name
        == "opc-ua-fe80-1-1-n-code-fe80-1-1-n-code-fe80-1-1-n-code-fe"
    )


@given(st.binary(max_size=300))
def test_answers_of_strangers_are_read_or_refused(data: bytes) -> None:
    for decode in (dns_records.records, lambda d: dns_records.records(b"\0\0\x80\0" + d), identification):
        with contextlib.suppress(PeerError):
            decode(data)


def test_names_that_go_in_circles_or_beyond_the_message_are_refused() -> None:
    head = struct.pack(">6H", 0, 0x8400, 0, 1, 0, 0)
    for name in (b"\xc0\x0c", b"\xc0\xff", b"\x3fabc", b"\x40", b"\x01a" * 200 + b"\0", b"\xc0"):
        with pytest.raises(PeerError):
            dns_records.records(head + name + struct.pack(">HHIH", 12, 1, 1, 0))
    with pytest.raises(PeerError, match="more than 128 records"):
        dns_records.records(struct.pack(">6H", 0, 0x8400, 0, 65535, 65535, 65535))


def test_a_finder_with_tasks_of_its_own_ends_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors of its tasks come in groups; the other finder has found something all the same."""

    class Many:
        def __init__(self, error: Exception | None) -> None:
            self._error = error

        def wants(self, request: ScanRequest) -> bool:
            return True

        async def find(self, scope: ScanScope) -> None:
            async with asyncio.TaskGroup() as group:
                for n in range(3):
                    group.create_task(self._ask(n, scope))

        async def _ask(self, n: int, scope: ScanScope) -> None:
            scope.found(Finding("many", "acme", f"{n}", {}))
            if self._error is not None:
                raise self._error
            while True:
                await scope.packet()

    async def run() -> None:
        made = {"mdns": Many(OSError("no route")), "onvif": Many(PeerError("no XML")), "modbus": Many(None)}
        monkeypatch.setattr(driver, "finder", made.__getitem__)
        result = await driver.scan(ScanRequest(networks=core.networks(["127.0.0.1"]), finders=list(made), packets=5))
        assert result.errors == {"mdns": "no route", "onvif": "no XML", "modbus": "ended after 5 packets"}
        assert len(result.findings) == 3

    asyncio.run(run())


def test_a_network_of_more_addresses_than_packets_ends_its_scan_and_keeps_what_was_found() -> None:
    async def run() -> None:
        request = ScanRequest(networks=core.networks(["127.0.0.0/24"]), finders=["modbus"], packets=3, seconds=30.0)
        assert (await driver.scan(request)).errors == {"modbus": "ended after 3 packets"}

    asyncio.run(run())


@given(st.dictionaries(st.text(max_size=300), st.text(max_size=300), max_size=30))
@example({"k" * 200: "v"})
@example({f"{n}{chr(0x1F600) * 120}": chr(0x1F600) * 128 for n in range(16)})
def test_whatever_a_stranger_says_of_itself_the_agent_takes_the_finding(info: dict[str, str]) -> None:
    """One that says too much must not cost the others: the agent takes all findings of a scan, or none, and half a megabyte of them."""
    finding = Finding(
        "mdns", "http", "192.0.2.1-80", {"url": "http://192.0.2.1:80"}, {"service": "x", **info}
    ).as_json()
    assert list(scans.discoveries([finding], 0)) == ["http-192-0-2-1-80"]
    assert core.MAX_FINDINGS * len(as_json([finding])) < 512 * 1024
