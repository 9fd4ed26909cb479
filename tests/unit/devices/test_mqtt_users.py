"""Users of the node's broker, with the rights that their devices give them, and the listener for other machines. The clients are Eclipse Paho's."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import queue
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion

from kubeedge.agent.device_modules import _lan
from kubeedge.api import keys
from kubeedge.cli.main import main
from kubeedge.config.devices import DevicesConfig, MqttTlsConfig
from kubeedge.devices.eventbus import logins as logins_module
from kubeedge.devices.eventbus import passwords
from kubeedge.devices.eventbus.logins import MqttLogins
from kubeedge.devices.eventbus.module import EventBus
from kubeedge.devices.eventbus.users import MAX_USERS, MqttUser, UserRights, users
from kubeedge.devices.module import DeviceTwins
from kubeedge.errors import Invalid
from kubeedge.store.sqlite import open_sqlite
from tests.kit.certs import TestAuthority
from tests.unit.devices.modules import WITHIN, running, until

NOON = 1_790_000_000.0
HALL, LATHE = "$hw/events/device/default/hall", "$hw/events/device/plant/lathe"
ME: dict[str, Any] = {"uid": os.geteuid(), "everything": True}


class Person:
    """A paho client with a name."""

    def __init__(
        self,
        port: int,
        user: str = "",
        password: str = "",
        *,
        version: int = paho.MQTTv5,
        ca: Path | None = None,
        **more: Any,
    ) -> None:
        self.received: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._codes: queue.Queue[Any] = queue.Queue()
        self._connected: queue.Queue[Any] = queue.Queue()
        self._acks: queue.Queue[Any] = queue.Queue()
        self.paho = paho.Client(
            CallbackAPIVersion.VERSION2,
            more.pop("name", ""),
            protocol=version,
            reconnect_on_failure=False,  # one that was refused would ask again, and be counted again
        )
        self.paho.on_message = lambda c, d, m: self.received.put((m.topic, m.payload))
        self.paho.on_subscribe = lambda c, d, mid, codes, p: self._codes.put(codes)
        self.paho.on_connect = lambda c, d, flags, code, p: self._connected.put(code)
        self.paho.on_publish = lambda c, d, mid, code, p: self._acks.put(code)
        if user:
            self.paho.username_pw_set(user, password)
        if ca is not None:
            self.paho.tls_set(str(ca))
        if "will" in more:
            self.paho.will_set(more["will"], b"{}", 1)
        self.paho.connect("127.0.0.1", port)
        self.paho.loop_start()
        self.code = self._connected.get(timeout=WITHIN)

    @property
    def is_in(self) -> bool:
        return not self.code.is_failure

    def subscribe(self, *filters: str) -> list[bool]:
        """Whether each was granted."""
        self.paho.subscribe([(one, 1) for one in filters])
        return [not code.is_failure for code in self._codes.get(timeout=WITHIN)]

    def publish(self, topic: str, value: Any = b"{}") -> bool:
        """Whether it was taken, as an MQTT 5 client hears it."""
        self.paho.publish(topic, value if isinstance(value, bytes) else json.dumps(value), 1)
        return not self._acks.get(timeout=WITHIN).is_failure

    def get(self) -> tuple[str, Any]:
        topic, payload = self.received.get(timeout=WITHIN)
        return topic, json.loads(payload) if payload[:1] == b"{" else payload

    def close(self) -> None:
        self.paho.disconnect()
        self.paho.loop_stop()


def row(protocol: str, uid: str) -> bytes:
    properties = {"t": {"type": "INT", "desired": "5", "history": True}}
    config = {"protocolName": protocol, "configData": {"password": f"secret of {protocol}"}}
    return json.dumps(
        {"metadata": {"uid": uid}, "generation": 1, "protocol": config, "properties": properties}
    ).encode()


FILE: list[dict[str, Any]] = [
    {"user": "modbus", "protocol": "modbus"},
    {"user": "panel", "devices": ["default/*"], "read": True},
    {"user": "line", "topics": ["line/+/x"], "messages": True},
    {"user": "one", "devices": ["plant/lathe"]},
]


def write(path: Path, items: list[dict[str, Any]]) -> None:
    made = [
        {**item, "password": passwords.hashed(b"pw-" + item["user"].encode())} if "user" in item else item
        for item in items
    ]
    new = path.with_suffix(".new")
    new.write_text(yaml.safe_dump(made))
    new.replace(path)


@contextlib.asynccontextmanager
async def node(
    tmp_path: Path, items: list[dict[str, Any]], **tls: Path
) -> AsyncIterator[tuple[EventBus, DeviceTwins, MqttLogins]]:
    """With two devices, one of each protocol."""
    write(tmp_path / "users.yaml", items)
    store = await open_sqlite(tmp_path / "edge.db")
    await store.put(keys.desired("devices", "default", "hall"), row("modbus", "u1"))
    await store.put(keys.desired("devices", "plant", "lathe"), row("opcua", "u2"))
    twins = DeviceTwins(store, wall=lambda: NOON)
    logins = MqttLogins(tmp_path / "users.yaml", lambda: twins.twins)
    lan = None
    if tls:
        config = MqttTlsConfig(listen="127.0.0.1:1", cert_file=tls["cert"], key_file=tls["key"])
        made = _lan(DevicesConfig(mqtt_users=tmp_path / "users.yaml", mqtt_tls=config))
        assert made is not None
        lan = type(made)("127.0.0.1", 0, made.tls)
    bus = EventBus(twins, "edge1", "127.0.0.1", 0, logins=logins, lan=lan)
    try:
        async with running(twins, bus):
            yield bus, twins, logins
    finally:
        await store.close()


def scenario(tmp_path: Path, items: list[dict[str, Any]], judge: Callable[[EventBus], None]) -> None:
    async def run() -> None:
        async with node(tmp_path, items) as (bus, _, _):
            await asyncio.to_thread(judge, bus)

    asyncio.run(run())


def update(value: str) -> dict[str, Any]:
    return {"twin": {"t": {"actual": {"value": value}}}}


def test_a_mapper_uses_the_devices_of_its_protocol_and_no_other(tmp_path: Path) -> None:
    def judge(bus: EventBus) -> None:
        root = Person(bus.port)
        assert root.is_in, "programs of this machine need no password where their user has an entry, as root"
        root.subscribe("#", "$hw/#", "$ke/#")
        mapper = Person(bus.port, "modbus", "pw-modbus")
        assert mapper.subscribe(f"{HALL}/twin/update/result", f"{LATHE}/twin/update/result") == [True, False]
        assert (
            mapper.subscribe("$hw/events/device/+/+/twin/update/document", "$ke/events/devices/get/result", "#")
            == [True] * 3
        )
        assert mapper.publish(f"{HALL}/twin/update", update("7"))
        assert mapper.get()[0].startswith(HALL)
        assert mapper.get()[0].startswith(HALL)
        assert not mapper.publish(f"{LATHE}/twin/update", update("7"))
        assert not mapper.publish(f"{LATHE}/twin/get") and not mapper.publish(
            f"{LATHE}/state/update", {"state": "online"}
        )
        for forged in (f"{HALL}/twin/update/delta", "$hw/events/node/edge1/membership/get", "any/topic", "a/user/b"):
            assert not mapper.publish(forged), forged
        assert root.publish(f"{LATHE}/twin/update", update("9")) and root.publish("any/topic")
        assert mapper.publish("$ke/events/devices/get", {"event_id": "e"})
        topic, answer = mapper.get()  # and nothing before it
        assert topic == "$ke/events/devices/get/result" and [one["id"] for one in answer["devices"]] == ["default/hall"]
        assert "opcua" not in json.dumps(answer)
        seen = []
        while not seen or not seen[-1].startswith("any"):
            seen.append(root.get()[0])
        assert f"{HALL}/twin/update" in seen and f"{LATHE}/twin/update" in seen
        for person in (root, mapper):
            person.close()

    scenario(tmp_path, [*FILE, ME], judge)


def test_a_device_with_the_name_of_a_namespace_says_nothing_of_the_devices_there(tmp_path: Path) -> None:
    async def run() -> None:
        async with node(tmp_path, FILE) as (_, twins, logins):
            await twins._store.put(keys.desired("devices", "default", "plant"), row("modbus", "u3"))
            await until(lambda: ("default", "plant") in twins.twins.devices)
            rights = UserRights(logins._users["modbus"], lambda: twins.twins)
            others = UserRights(logins._users["one"], lambda: twins.twins)
            plant = "$hw/events/device/plant"
            for end in ("twin/update/delta", "twin/update/document", "twin/get/result", "state/update/result"):
                assert rights.may_receive(f"{plant}/{end}") and not rights.may_receive(f"{LATHE}/{end}"), end
                assert others.may_receive(f"{LATHE}/{end}") and not others.may_receive(f"{plant}/{end}"), end
            call = "$ke/events/device/plant/lathe/method"
            assert not rights.may_receive(f"{call}/call") and not rights.may_publish(f"{call}/result")
            assert others.may_receive(f"{call}/call") and others.may_publish(f"{call}/result")
            assert rights.may_publish("$ke/events/device/default/plant/method/result")

    asyncio.run(run())


def test_answers_go_to_who_has_asked(tmp_path: Path) -> None:
    def judge(bus: EventBus) -> None:
        mapper, other = Person(bus.port, "modbus", "pw-modbus"), Person(bus.port, "one", "pw-one")
        for person in (mapper, other):
            person.subscribe("$ke/events/devices/get/result", "$ke/events/devices/history/get/result")
        assert mapper.publish("$ke/events/devices/get", {"event_id": "mine"})
        assert other.publish("$ke/events/devices/history/get", {"event_id": "h", "id": "default/hall", "property": "t"})
        topic, answer = other.get()
        assert topic.endswith("history/get/result") and answer["code"] == 404
        assert mapper.get()[1]["event_id"] == "mine" and other.received.empty()
        for person in (mapper, other):
            person.close()

    scenario(tmp_path, FILE, judge)


def test_who_may_only_read_reads_and_own_topics_are_own(tmp_path: Path) -> None:
    def judge(bus: EventBus) -> None:
        panel = Person(bus.port, "panel", "pw-panel")
        assert panel.subscribe(f"{HALL}/twin/get/result", f"{LATHE}/twin/get/result", "line/1/x") == [
            True,
            False,
            False,
        ]
        assert panel.publish(f"{HALL}/twin/get") and panel.get()[0] == f"{HALL}/twin/get/result"
        assert not panel.publish(f"{HALL}/twin/update", update("1")) and not panel.publish(f"{LATHE}/twin/get")
        assert not panel.publish("$ke/events/devices/method/call") and panel.subscribe(
            "$ke/events/devices/method/call/result"
        ) == [True]
        line = Person(bus.port, "line", "pw-line")
        assert line.subscribe("line/1/x", "line/1/y", "#") == [True, False, True]
        assert line.publish("line/1/x", b"hello") and line.get() == ("line/1/x", b"hello")
        assert not line.publish("line/1/y") and line.publish("SYS/dis/upload_records")
        assert not line.publish(f"{HALL}/twin/update", update("1"))
        for person in (panel, line):
            person.close()

    scenario(tmp_path, FILE, judge)


@pytest.mark.parametrize("version", [paho.MQTTv311, paho.MQTTv5])
def test_who_is_not_known_is_not_let_in(tmp_path: Path, version: int) -> None:
    def judge(bus: EventBus) -> None:
        for user, password in (
            ("modbus", "wrong"),
            ("modbus", ""),
            ("nobody", "pw-nobody"),
            ("panel", "pw-modbus"),
            ("0", ""),
        ):
            person = Person(bus.port, user, password, version=version)
            assert not person.is_in, user
            person.close()
        assert not Person(bus.port, version=version).is_in, "its Unix user has no entry"
        assert Person(bus.port, "modbus", "pw-modbus", version=version).is_in

    async def run() -> None:
        async with node(tmp_path, FILE) as (bus, _, logins):
            logins._users = {key: user for key, user in logins._users.items() if key != 0}
            await asyncio.to_thread(judge, bus)
            assert logins.refused == 6

    asyncio.run(run())


def test_a_session_is_its_user_s_and_a_will_needs_a_right(tmp_path: Path) -> None:
    def judge(bus: EventBus) -> None:
        mine = Person(bus.port, "modbus", "pw-modbus", name="same")
        theirs = Person(bus.port, "one", "pw-one", name="same")
        assert not theirs.is_in and mine.publish(f"{HALL}/state/update", {"state": "online"}), "it is still there"
        assert Person(bus.port, "modbus", "pw-modbus", name="same").is_in
        assert not Person(bus.port, "modbus", "pw-modbus", will=f"{LATHE}/state/update").is_in
        assert Person(bus.port, "modbus", "pw-modbus", will=f"{HALL}/state/update").is_in

    scenario(tmp_path, FILE, judge)


def test_a_change_of_the_file_counts_for_those_who_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logins_module, "_LOOK", 0.05)

    async def run() -> None:
        async with node(tmp_path, FILE) as (bus, _, _):
            assert bus._server is not None
            sessions = bus._server._connections
            kept = await asyncio.to_thread(Person, bus.port, "one", "pw-one", name="kept")
            gone = await asyncio.to_thread(Person, bus.port, "panel", "pw-panel", name="gone")
            gone.paho.reconnect_delay_set(1, 1)
            assert kept.is_in and gone.is_in and set(sessions) == {"kept", "gone"}
            items = yaml.safe_load((tmp_path / "users.yaml").read_text())
            (tmp_path / "users.yaml").write_text(yaml.safe_dump([one for one in items if one["user"] != "panel"]))
            await until(lambda: set(sessions) == {"kept"})
            (tmp_path / "users.yaml").write_text("- {user: one, password: nonsense}")
            await until(lambda: not sessions)
            assert not (await asyncio.to_thread(Person, bus.port, "one", "pw-one")).is_in
            (tmp_path / "users.yaml").unlink()
            assert not (await asyncio.to_thread(Person, bus.port, "one", "pw-one")).is_in
            assert (await asyncio.to_thread(Person, bus.port)).is_in == (os.geteuid() == 0)
            for person in (kept, gone):
                await asyncio.to_thread(person.close)

    asyncio.run(run())


def test_other_machines_come_by_tls_and_with_a_name(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    authority = TestAuthority(tmp_path)
    made = authority.issue("broker", hosts=["127.0.0.1"])
    stranger = TestAuthority(tmp_path_factory.mktemp("other"))

    async def run() -> None:
        async with node(tmp_path, [*FILE, ME], cert=made.cert, key=made.key) as (bus, _, _):

            def judge() -> None:
                port = bus.lan_port
                assert port != bus.port
                mapper = Person(port, "modbus", "pw-modbus", ca=authority.ca)
                assert mapper.is_in and mapper.publish(f"{HALL}/twin/update", update("7"))
                assert not mapper.publish(f"{LATHE}/twin/update", update("7"))
                mapper.close()
                anonymous = Person(port, ca=authority.ca)
                assert not anonymous.is_in, "nobody is anonymous there, nor root"
                anonymous.close()
                context = ssl.create_default_context(cafile=stranger.ca)
                with (
                    socket.create_connection(("127.0.0.1", port), WITHIN) as connection,
                    pytest.raises(ssl.SSLCertVerificationError),
                ):
                    context.wrap_socket(connection, server_hostname="127.0.0.1")
                local = Person(bus.port)
                assert local.is_in
                local.close()

            await asyncio.to_thread(judge)

    asyncio.run(run())


def test_a_listener_for_other_machines_needs_users_and_a_certificate(tmp_path: Path) -> None:
    for config in (
        DevicesConfig(mqtt_tls=MqttTlsConfig(listen="0.0.0.0:8883", cert_file=tmp_path, key_file=tmp_path)),
        DevicesConfig(mqtt_tls=MqttTlsConfig(listen="0.0.0.0:8883"), mqtt_users=tmp_path),
    ):
        with pytest.raises(Invalid, match="mqttTls"):
            _lan(config)
    assert _lan(DevicesConfig()) is None


def test_the_command_makes_an_entry(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("pw of mine\nmore\n"))
    assert main(["devices", "user", "modbus", "--protocol", "modbus"]) == 0
    told = capsys.readouterr()
    made = users(yaml.safe_load(told.out))["modbus"]
    assert not told.err
    assert made.protocol == "modbus" and made.password is not None
    assert made.password.matches(b"pw of mine") and not made.password.matches(b"pw of min")
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert main(["devices", "user", "modbus"]) != 0
    assert main(["devices", "user", "panel", "--certificate"]) == 0
    told = capsys.readouterr()
    assert users(yaml.safe_load(told.out))["panel"].certificate and "it may do nothing yet" in told.err


HASH = passwords.hashed(b"x")


@pytest.mark.parametrize(
    ("item", "why"),
    [
        ("x", "no mapping"),
        ({}, "either user or uid"),
        ({"user": "a", "uid": 1}, "either user or uid"),
        ({"user": "a"}, "password is missing"),
        ({"user": "", "password": HASH}, "user is a text"),
        ({"user": "a", "password": "plain"}, "scrypt:N:R:P"),
        ({"user": "a", "password": "scrypt:1048576:8:1:AAAA:AAAA"}, "MiB"),
        ({"user": "a", "password": "scrypt:4096:8:99:AAAA:AAAA"}, "MiB"),
        ({"user": "a", "password": "scrypt:4097:8:1:AAAA:AAAA"}, "none of its"),
        ({"user": "a", "password": "scrypt:4096:8:1:=:AAAA"}, "base64"),
        ({"user": "a", "password": "scrypt:4096:8:1:AAAA:AAAA"}, "salt of 8"),
        ({"uid": True}, "uid is a number"),
        ({"uid": 1, "password": HASH}, "has no password"),
        ({"uid": 1, "protocol": 5}, "protocol is a text"),
        ({"uid": 1, "devices": "default/a"}, "devices is a list"),
        ({"uid": 1, "devices": ["a"]}, "NAMESPACE/NAME"),
        ({"uid": 1, "topics": ["$hw/#"]}, "do not begin with"),
        ({"uid": 1, "topics": ["a/#/b"]}, "do not begin with"),
        ({"uid": 1, "read": "yes"}, "true or false"),
        ({"uid": 1, "admin": True}, "unknown fields admin"),
    ],
)
def test_a_file_that_cannot_be_is_refused_and_no_password_is_said(item: Any, why: str) -> None:
    with pytest.raises(Invalid, match=why) as caught:
        users([item])
    assert "AAAA" not in str(caught.value) and "plain" not in str(caught.value)
    assert repr(users([{"user": "a", "password": HASH}])["a"]).count(HASH.split(":")[5]) == 0


def test_users_are_few_and_each_is_one() -> None:
    with pytest.raises(Invalid, match="twice"):
        users([{"uid": 1}, {"uid": 1}])
    with pytest.raises(Invalid, match="at most"):
        users([{"uid": number} for number in range(MAX_USERS + 1)])
    assert users([]) == {0: MqttUser(uid=0, everything=True)} and not users([{"uid": 0}])[0].everything


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["user", "uid", "password", "devices", "topics", "read", "protocol", "x"]) | st.integers(), inner, max_size=5), max_leaves=12))  # fmt: skip
def test_no_file_breaks_the_reader(value: Any) -> None:
    with contextlib.suppress(Invalid):
        users(value)
