"""Users of a node's broker: a mapper on another machine logs in by TLS with a certificate, one with a password has no devices of that protocol, and one that
is nobody's stays outside. Real cloud, agent, mappers and kubectl."""

from __future__ import annotations

import json
import signal

import pytest
import yaml

from kubeedge.devices.eventbus import passwords
from tests.kit.certs import TestAuthority
from tests.kit.topology import CommandFailed, until
from tests.netns.test_join import KUBEEDGE, Site, site  # noqa: F401

pytestmark = pytest.mark.root

MANIFEST = """
apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {name: panel}
spec:
  protocol: virtual
  properties:
  - {name: level, type: INT, accessMode: ReadWrite}
---
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {name: panel}
spec:
  deviceModelRef: {name: panel}
  nodeName: edge1
  protocol: {protocolName: virtual}
  properties:
  - {name: level, collectCycle: 200, desired: {value: "7"}}
"""


def test_mappers_log_in_at_a_node_s_broker(site: Site) -> None:  # noqa: F811
    def reported() -> dict[str, str]:
        status = json.loads(site.kubectl("get", "device", "panel", "-o", "json")).get("status", {})
        return {one["propertyName"]: one["reported"]["value"] for one in status.get("twins", ()) if "reported" in one}

    site.join()
    inside, outside = site.directory / "inside", site.directory / "outside"
    for directory in (inside, outside):
        directory.mkdir()
    authority, stranger = TestAuthority(inside), TestAuthority(outside)
    broker = authority.issue("broker", hosts=["127.0.0.1"])
    users = site.directory / "users.yaml"
    password = site.directory / "password"
    password.write_text("of the other one\n")
    entries = [
        {"user": "virtual-mapper", "certificate": True, "protocol": "virtual"},
        {"user": "other", "password": passwords.hashed(b"of the other one"), "protocol": "other"},
    ]
    users.write_text(yaml.safe_dump(entries))
    config = site.root / "etc/kubeedge/kubeedge.yaml"
    text = yaml.safe_load(config.read_text())
    text["modules"]["devices"] |= {
        "enable": True,
        "mqttUsers": str(users),
        "mqttTls": {
            "listen": "127.0.0.1:8883",
            "certFile": str(broker.cert),
            "keyFile": str(broker.key),
            "clientCaFile": str(authority.ca),
        },
    }
    config.write_text(yaml.safe_dump(text))
    site.start_agent()
    site.kubectl("apply", "-f", "-", input=MANIFEST)

    address = ["--broker", "mqtts://127.0.0.1:8883", "--ca-file", str(authority.ca)]
    mine, theirs = authority.issue("virtual-mapper"), stranger.issue("virtual-mapper", file="theirs")
    logins = {
        "stranger": ["--cert-file", str(theirs.cert), "--key-file", str(theirs.key)],
        "other": ["--user", "other", "--password-file", str(password)],
        "mapper": ["--cert-file", str(mine.cert), "--key-file", str(mine.key)],
    }

    def mapper(name: str) -> object:
        log = site.directory / f"{name}.log"
        return site.machine.spawn(*KUBEEDGE, "mapper", "virtual", *address, *logins[name], log=log)

    def said(name: str) -> str:
        path = site.directory / f"{name}.log"
        return path.read_text() if path.exists() else ""

    running = [mapper("stranger"), mapper("other")]
    try:
        until(lambda: "attached" in said("other"), what="the mapper that has a password")
        until(lambda: "certificate verify failed" in said("edge"), what="the refusal of the one that has a stranger's")
        listed = site.machine.run(*KUBEEDGE, "devices", "list", "-o", "json", *address, *logins["other"])
        assert json.loads(listed) == [], "a user sees its own devices"
        running.append(mapper("mapper"))
        until(lambda: reported() == {"level": "7"}, what="the value, by the mapper with a certificate")
        site.admin("devices", "set", "panel", "level=8")
        until(lambda: reported() == {"level": "8"}, what="the value that was set")
        shown = json.loads(
            site.machine.run(*KUBEEDGE, "devices", "get", "panel", "-o", "json", *address, *logins["mapper"])
        )
        assert shown["reported"]["level"]["value"] == "8" and shown["state"] == "online"
        with pytest.raises(CommandFailed, match="the client may not connect: it has to log in"):
            site.machine.run(*KUBEEDGE, "devices", "list", *address)
        assert "attached" not in said("stranger")
    finally:
        for process in running:
            site.machine.signal(process, signal.SIGTERM)  # type: ignore[arg-type]
            process.wait(90)  # type: ignore[attr-defined]
