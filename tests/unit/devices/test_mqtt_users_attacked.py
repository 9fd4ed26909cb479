"""Users of the broker who want more than they have, and rights that are taken away while a client is there."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from kubeedge.api import keys
from kubeedge.devices.core import Twins
from kubeedge.devices.eventbus import logins as logins_module
from kubeedge.devices.eventbus import passwords
from kubeedge.devices.eventbus.logins import MqttLogins
from kubeedge.devices.eventbus.users import UserRights
from kubeedge.mqtt.admission import MqttPeer
from kubeedge.mqtt.codec import Connect, MqttError, Publish, Subscription
from kubeedge.mqtt.core import Broker
from tests.unit.devices.modules import until
from tests.unit.devices.test_mqtt_users import FILE, LATHE, Person, node, row, write


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


def test_a_change_counts_also_when_somebody_who_came_had_it_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logins_module, "_LOOK", 0.5)

    async def run() -> None:
        async with node(tmp_path, FILE) as (bus, _, _):
            assert bus._server is not None
            sessions = bus._server._connections
            gone = await asyncio.to_thread(Person, bus.port, "panel", "pw-panel", name="gone")
            write(tmp_path / "users.yaml", [one for one in FILE if one["user"] != "panel"])
            kept = await asyncio.to_thread(Person, bus.port, "one", "pw-one", name="kept")
            assert gone.is_in and kept.is_in
            await until(lambda: "gone" not in sessions)
            for person in (kept, gone):
                await asyncio.to_thread(person.close)

    asyncio.run(run())


def test_who_guesses_passwords_keeps_nobody_else_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running: list[int] = []
    tried: list[bytes] = []
    changed = threading.Event()

    def slow(self: Any, password: bytes) -> bool:
        running.append(len(running))
        tried.append(password)
        if password == b"late":
            changed.wait(60)
        else:
            time.sleep(0.05)
        running.pop()
        return password in (b"right", b"late")

    monkeypatch.setattr(passwords.PasswordHash, "matches", slow)
    write(tmp_path / "users.yaml", FILE)
    logins = MqttLogins(tmp_path / "users.yaml", Twins)

    def login(address: str, password: bytes) -> asyncio.Task[Any]:
        packet = Connect("c", 5, True, 60, user="modbus", password=password)
        return asyncio.create_task(logins.admit(packet, MqttPeer(address, None, True)))  # type: ignore[arg-type]

    async def run() -> None:
        guesses = [login("192.0.2.1", b"%d" % n) for n in range(40)]
        await until(lambda: bool(running))
        assert await login("198.51.100.7", b"right") is not None
        assert len(tried) < 10, "not all 40 guesses come before it"
        for guess in guesses:
            guess.cancel()
            await asyncio.sleep(0.005)
            assert len(running) <= 1
        await asyncio.gather(*guesses, return_exceptions=True)
        # a user who goes while his password is tried has no rights
        late = login("198.51.100.7", b"late")
        await until(lambda: bool(running))
        write(tmp_path / "users.yaml", FILE[1:])
        await logins.look()
        changed.set()
        with pytest.raises(MqttError, match="user or password"):
            await late

    asyncio.run(run())


def test_what_waits_for_a_client_is_looked_at_when_it_comes_with_fewer_rights() -> None:
    class Rights:
        name = "user a"

        def __init__(self, *topics: str) -> None:
            self.topics = topics

        def may_publish(self, topic: str) -> bool:
            return topic in self.topics

        may_receive = may_publish

    broker = Broker()
    packet = Connect("c", 5, False, 60, expiry=1000)
    first = broker.connect(packet, 0.0, Rights("a", "b"))
    assert first is not None
    broker.subscribe(first[0], [Subscription("a", 1), Subscription("b", 1)])
    assert broker.is_heard("b")
    broker.closed(first[0], 1.0, with_will=False)
    broker.publish(Publish("a", b"1", 1))
    broker.publish(Publish("b", b"2", 1))
    again = broker.connect(packet, 2.0, Rights("a"))
    assert again is not None and again[1] and not broker.is_heard("b")
    assert [one.topic for one in again[0].queue] == ["a"] and broker._bytes == again[0].bytes
