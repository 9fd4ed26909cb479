"""Client certificates as users of the node's broker. The clients are Eclipse Paho's, mosquitto's and our mapper."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubeedge.agent.device_modules import _lan
from kubeedge.api import keys
from kubeedge.cli.main import main
from kubeedge.config.devices import DevicesConfig, MqttTlsConfig
from kubeedge.devices.eventbus import passwords
from kubeedge.devices.eventbus.logins import MqttLogins
from kubeedge.devices.eventbus.module import EventBus
from kubeedge.devices.eventbus.users import users
from kubeedge.devices.module import DeviceTwins
from kubeedge.errors import Invalid, Unavailable
from kubeedge.kit.tasks import cancel_and_wait
from kubeedge.mapper import Device, Mapper, Property
from kubeedge.mapper.broker import node_broker
from kubeedge.mqtt.admission import certificate_names
from kubeedge.mqtt.client import MqttClient
from kubeedge.store.sqlite import open_sqlite
from tests.kit.certs import Credentials, TestAuthority
from tests.unit.devices.modules import WITHIN, running, until
from tests.unit.devices.test_mqtt_users import HALL, LATHE, NOON, row, update

USERS: list[dict[str, Any]] = [
    {"user": "modbus", "certificate": True, "protocol": "modbus"},
    {"user": "press.site.example", "certificate": True, "devices": ["plant/lathe"]},
    {"user": "both", "certificate": True, "password": "pw-both", "everything": True},
    {"user": "panel", "password": "pw-panel", "everything": True},
]

_serial = (
    itertools.count()
)  # each client has an identifier of its own: a session is its user's until the broker has seen its end


class Site:
    """A broker with a listener for other machines, and two authorities, of which it knows one."""

    def __init__(self, directory: Path, other: Path) -> None:
        self.directory = directory
        self.authority = TestAuthority(directory)
        self.stranger = TestAuthority(other)
        self.users = directory / "users.yaml"
        self.write(USERS)
        self.bus: EventBus
        self.logins: MqttLogins
        self.twins: DeviceTwins

    def write(self, items: list[dict[str, Any]]) -> None:
        made = [
            {**one, "password": passwords.hashed(one["password"].encode())} if "password" in one else one
            for one in items
        ]
        new = self.users.with_suffix(".new")
        new.write_text(yaml.safe_dump(made))
        new.replace(self.users)

    @contextlib.asynccontextmanager
    async def run(self) -> Any:
        made = self.authority.issue("broker", hosts=["127.0.0.1"])
        store = await open_sqlite(self.directory / "edge.db")
        await store.put(keys.desired("devices", "default", "hall"), row("modbus", "u1"))
        await store.put(keys.desired("devices", "plant", "lathe"), row("opcua", "u2"))
        self.twins = DeviceTwins(store, wall=lambda: NOON)
        self.logins = MqttLogins(self.users, lambda: self.twins.twins)
        tls = MqttTlsConfig(
            listen="127.0.0.1:1", cert_file=made.cert, key_file=made.key, client_ca_file=self.authority.ca
        )
        lan = _lan(DevicesConfig(mqtt_users=self.users, mqtt_tls=tls))
        assert lan is not None
        self.bus = EventBus(
            self.twins, "edge1", "127.0.0.1", 0, logins=self.logins, lan=type(lan)("127.0.0.1", 0, lan.tls)
        )
        try:
            async with running(self.twins, self.bus):
                yield
        finally:
            await store.close()

    def broker(self, shown: Credentials | None, user: str = "", password: str = "") -> Any:
        login = {"user": user, "ca_file": str(self.authority.ca)}
        if password:
            (file := self.directory / f"{user}.password").write_text(f"{password}\n")
            login["password_file"] = str(file)
        if shown is not None:
            login |= {"cert_file": str(shown.cert), "key_file": str(shown.key)}
        return node_broker(f"mqtts://127.0.0.1:{self.bus.lan_port}", login)

    @contextlib.asynccontextmanager
    async def client(self, *login: Any) -> Any:
        client = await self.broker(*login).connect(f"c{next(_serial)}", lambda message: None)
        serving = asyncio.create_task(client.serve())
        try:
            yield client
        finally:
            await cancel_and_wait(serving)


@pytest.fixture
def site(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    yield Site(tmp_path, tmp_path_factory.mktemp("other"))


async def reported(site: Site, client: MqttClient, topic: str, value: str) -> str | None:
    await client.publish(f"{topic}/twin/update", json.dumps(update(value)).encode())
    namespace, name = topic.rsplit("/", 2)[-2:]
    twin = site.twins.twins.devices[namespace, name].twins.get("t")
    return None if twin is None else twin.reported


def test_the_common_name_or_an_alternative_one_is_the_user_s(site: Site) -> None:
    by_name = site.authority.issue("modbus")
    by_host = site.authority.issue("someone", hosts=["10.0.0.1", "press.site.example"], uri="urn:x")

    async def run() -> None:
        async with site.run():
            async with site.client(by_name) as client:
                assert await reported(site, client, HALL, "7") == "7"
                assert await reported(site, client, LATHE, "7") is None, "another protocol's"
            async with site.client(by_host) as client:
                assert await reported(site, client, LATHE, "8") == "8"
            async with site.client(by_host, "press.site.example"):
                pass

    asyncio.run(run())


def test_who_is_refused(site: Site) -> None:
    strange = site.stranger.issue("modbus")
    late = site.authority.issue("modbus", days=(-20, -10), file="late")
    mine, nobody, panel = (site.authority.issue(name) for name in ("modbus", "nobody", "panel"))
    two = site.authority.issue("modbus", hosts=["press.site.example"], file="two")

    async def run() -> None:
        async with site.run():
            for shown in (strange, late):  # TLS has not verified them
                with pytest.raises(OSError):
                    await site.broker(shown).connect("x", lambda message: None)
            refused: list[tuple[Any, ...]] = [
                (nobody,),  # no user's
                (panel,),  # a user's who has a password
                (mine, "press.site.example"),  # another one's
                (mine, "panel"),
                (mine, "panel", "pw-wrong"),
                (two,),  # two users'
                (None, "modbus", "pw-modbus"),  # who has a certificate alone
                (None, "modbus"),
                (None,),
            ]
            for login in refused:
                with pytest.raises(Unavailable):
                    await site.broker(*login).connect("x", lambda message: None)
            assert site.logins.refused == len(refused)
            async with site.client(two, "press.site.example") as client:
                assert await reported(site, client, LATHE, "9") == "9"
            async with site.client(
                mine, "panel", "pw-panel"
            ):  # a password is as good beside a certificate of another name
                pass
            for login in ((site.authority.issue("both"),), (None, "both", "pw-both")):
                async with site.client(*login):
                    pass

    asyncio.run(run())


def test_a_user_that_is_taken_out_is_sent_away(site: Site) -> None:
    mine = site.authority.issue("modbus")

    async def run() -> None:
        async with site.run():
            async with site.client(mine) as client:
                site.write(USERS[1:])
                await site.logins.look()
                assert site.bus._server is not None
                site.bus._server.recheck(site.logins.still)
                await until(lambda: client.has_ended)
            with pytest.raises(Unavailable):
                await site.broker(mine).connect("x", lambda message: None)

    asyncio.run(run())


def test_mosquitto_s_client_comes_with_a_certificate(site: Site) -> None:
    mine = site.authority.issue("modbus")

    def publish(*more: str) -> int:
        told = json.dumps(update("11"))
        command = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(site.bus.lan_port), "--cafile", str(site.authority.ca)]
        command += [*more, "-q", "1", "-V", "5", "-t", f"{HALL}/twin/update", "-m", told]
        return subprocess.run(command, capture_output=True, timeout=WITHIN).returncode

    async def run() -> None:
        async with site.run():
            assert await asyncio.to_thread(publish, "--cert", str(mine.cert), "--key", str(mine.key)) == 0
            assert site.twins.twins.devices["default", "hall"].twins["t"].reported == "11"
            assert await asyncio.to_thread(publish) != 0

    asyncio.run(run())


def test_a_mapper_logs_in_and_has_the_devices_of_its_protocol(site: Site) -> None:
    mapper = Mapper("modbus")

    @mapper.connect
    async def connect(device: Device) -> object:
        return object()

    @mapper.read
    async def read(client: object, prop: Property) -> int:
        return 23

    @mapper.write
    async def write(client: object, prop: Property, value: Any) -> None:
        pass

    async def run() -> None:
        async with site.run():
            serving = asyncio.create_task(mapper.serve(site.broker(site.authority.issue("modbus"))))
            try:
                devices = site.twins.twins.devices
                await until(lambda: "t" in (twins := devices["default", "hall"].twins) and twins["t"].reported == "23")
                assert list(mapper.health["devices"]) == ["default/hall"]
            finally:
                await cancel_and_wait(serving)

    asyncio.run(run())


def test_what_the_file_may_say() -> None:
    for item, why in (
        ({"user": "a"}, "certificate: true"),
        ({"user": "a", "certificate": False}, "certificate: true"),
        ({"user": "a", "certificate": "yes"}, "true or false"),
        ({"user": "a", "certificate": True, "password": 7}, "password"),
        ({"uid": 7, "certificate": True}, "not for a uid"),
    ):
        with pytest.raises(Invalid, match=why):
            users([item])


def test_names_of_a_certificate_are_bounded() -> None:
    assert certificate_names(None) == () == certificate_names({})
    many = {"subjectAltName": tuple(("DNS", f"n{number}") for number in range(1000))}
    assert len(certificate_names(many)) == 32
    subject = ((("organizationName", "org"),), (("commonName", "cn"),))
    found = {"subject": subject, "subjectAltName": (("DirName", "x"), ("email", "a@b"), ("DNS", "cn"))}
    assert certificate_names(found) == ("cn", "a@b")


def test_the_command_makes_an_entry_without_a_password(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices", "user", "modbus", "--certificate", "--protocol", "modbus"]) == 0
    made = users(yaml.safe_load(capsys.readouterr().out))["modbus"]
    assert made.certificate and made.password is None and made.protocol == "modbus"


def test_a_client_that_does_not_trust_the_broker_is_in_the_log_with_a_reason(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with site.run():
            with pytest.raises(OSError, match="certificate verify failed"):
                await node_broker(f"mqtts://127.0.0.1:{site.bus.lan_port}", {"user": "x"}).connect("c", print)
            async with asyncio.timeout(10):
                while not caplog.messages:
                    await asyncio.sleep(0.02)

    with caplog.at_level("INFO", "kubeedge.mqtt"):
        asyncio.run(run())
    assert all(not text.endswith(": ") for text in caplog.messages)
