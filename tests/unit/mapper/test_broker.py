"""Where the broker of a node is, and as whom a mapper or a command comes there."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from kubeedge.cli.main import main
from kubeedge.errors import Invalid, Misuse
from kubeedge.mapper.broker import NodeBroker, node_broker
from kubeedge.mqtt import requests
from kubeedge.mqtt.codec import Connect, PacketDecoder


def test_what_is_not_said_comes_from_the_environment() -> None:
    assert node_broker() == NodeBroker("127.0.0.1", 1883)
    said = {"KUBEEDGE_BROKER": "mqtts://edge1", "KUBEEDGE_BROKER_USER": "m", "KUBEEDGE_BROKER_PASSWORD_FILE": "/p"}
    assert node_broker("", {}, said) == NodeBroker("edge1", 8883, True, "m", "/p")
    assert node_broker("mqtt://[::1]", {"user": "n"}, said) == NodeBroker("::1", 1883, False, "n", "/p")
    assert node_broker("[fe80::1]:7") == NodeBroker("fe80::1", 7)
    told = node_broker("mqtts://h:1", {"ca_file": "/ca", "cert_file": "/c", "key_file": "/k"})
    assert told == NodeBroker("h", 1, True, "", "", "/ca", "/c", "/k")


@pytest.mark.parametrize(
    ("address", "login"),
    [
        ("http://h", {}),
        ("h", {}),
        ("mqtt://", {}),
        ("mqtts://h:0", {}),
        ("mqtts://h:x", {}),
        ("h:1883", {"cert_file": "/c"}),
        ("mqtt://h", {"ca_file": "/c"}),
        ("mqtts://h", {"key_file": "/k"}),
        ("mqtts://h", {"password_file": "/p"}),
        ("mqtts://h", {"user": "x" * 257}),
    ],
)
def test_what_does_not_go_together_is_refused(address: str, login: dict[str, str]) -> None:
    with pytest.raises(Invalid):
        node_broker(address, login)
    options = [f"--{name.replace('_', '-')}={value}" for name, value in login.items()]
    for command in (["mapper", "virtual"], ["devices", "list"]):
        assert main([*command, "--broker", address, *options]) == 2


def test_a_setting_that_is_none_is_a_mistake_of_the_program() -> None:
    with pytest.raises(Misuse):
        node_broker("h:1", {"passwordfile": "/p"})


def test_files_that_are_none_are_named(tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("nothing")
    (tmp_path / "long").write_bytes(b"x" * 1025)
    (tmp_path / "binary").write_bytes(b"\xff\xff")
    for broker, why in (
        (NodeBroker("127.0.0.1", 1, True, ca_file=str(tmp_path / "ca")), "ca"),
        (NodeBroker("127.0.0.1", 1, user="u", password_file=str(tmp_path / "long")), "1024 bytes"),
        (NodeBroker("127.0.0.1", 1, user="u", password_file=str(tmp_path / "binary")), "no text|not text"),
    ):
        with pytest.raises(Invalid, match=why):
            asyncio.run(broker.connect("x", lambda message: None))
    for name in ("password_file", "ca_file", "cert_file"):
        with pytest.raises(FileNotFoundError, match="missing"):
            broker = replace(NodeBroker("127.0.0.1", 1, True, "u"), **{name: str(tmp_path / "missing")})
            asyncio.run(broker.connect("x", lambda message: None))


def test_a_command_without_its_file_blames_no_agent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices", "list", "--broker", "mqtts://127.0.0.1:1", "--ca-file", str(tmp_path / "missing")]) == 1
    told = capsys.readouterr().err
    assert "missing" in told and "modules.devices.enable" not in told


@pytest.mark.parametrize("login", [None, ("user", None), ("user", "password")])
def test_connect_says_who_it_is(login: tuple[str, str | None] | None) -> None:
    decoder = PacketDecoder()
    decoder.push(requests.connect("me", 30, login))
    packet = decoder.next()
    assert isinstance(packet, Connect)
    user, password = login or (None, None)
    assert (packet.user, packet.password) == (user, None if password is None else password.encode())
