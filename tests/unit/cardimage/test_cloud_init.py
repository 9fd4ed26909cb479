"""What Raspberry Pi Imager writes: which fields it becomes, what is ignored by name, and what is no such file."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from kubeedge_card import cloud_init, config

KEY = "ssh-ed25519 " + "A" * 40
USER_DATA = f"""#cloud-config
manage_etc_hosts: true
hostname: Cam7
timezone: Europe/Berlin
users:
- name: pi
  shell: /bin/bash
  ssh_authorized_keys: ["{KEY}", "{KEY} me"]
- default
ssh_authorized_keys: ["{KEY}"]
ntp: {{enabled: true, servers: [time.example]}}
packages: [avahi-daemon]
runcmd:
- [rfkill, unblock, wifi]
kubeedge: {{cloud: cloud.example, token: t0ken}}
"""
NETWORK = """
network:
  version: 2
  ethernets:
    eth0: {dhcp4: true, optional: true}
  wifis:
    wlan0:
      dhcp4: true
      regulatory-domain: DE
      access-points:
        "plant": {password: "12345678", hidden: true}
      optional: true
"""


def test_its_files_are_a_configuration() -> None:
    fields, ignored = cloud_init.fields(yaml.safe_load(USER_DATA), yaml.safe_load(NETWORK))
    parsed = config.parse(fields)
    assert (parsed.name, parsed.cloud, parsed.token) == ("cam7", "cloud.example", "t0ken")
    assert parsed.ssh_keys == (KEY, f"{KEY} me") and parsed.time_zone == "Europe/Berlin"
    assert parsed.time_servers == ("time.example",)
    assert parsed.network == config.Network("wlan0", wifi=config.Wifi("plant", "12345678", "DE", True))
    assert ignored == ["user-data: packages", "user-data: runcmd", "network-config: ethernets.eth0"]


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_static_address_with_either_form_of_its_gateway(wrapped: bool) -> None:
    routes = [
        {"to": "10.0.0.0/8", "via": "192.168.1.9"},
        {"to": "default", "via": "fe80::1"},
        {"to": "default", "via": "192.168.1.1"},
    ]
    for way in ({"gateway4": "192.168.1.1"}, {"routes": routes}):
        settings = {"addresses": ["fd00::7/64", "192.168.1.7/24"], "nameservers": {"addresses": ["192.168.1.2"]}, **way}
        network: dict[str, Any] = {"version": 2, "ethernets": {"eth0": settings}}
        fields, _ = cloud_init.fields(None, {"network": network} if wrapped else network)
        parsed = config.parse({"name": "a", "cloud": "c", **fields}).network
        assert parsed == config.Network("eth0", "192.168.1.7/24", "192.168.1.1", ("192.168.1.2",))


def test_nothing_asked_for_is_nothing() -> None:
    assert cloud_init.fields(None, None) == ({}, [])
    assert cloud_init.fields({"hostname": ""}, {"version": 2}) == ({}, [])


@pytest.mark.parametrize(
    ("user_data", "network"),
    [
        ("x", None),
        (None, [1]),
        (None, {"network": "x"}),
        (None, {"network": {"version": 1, "config": []}}),
        (None, {"version": 2, "wifis": [1]}),
        (None, {"version": 2, "wifis": {"wlan0": 7}}),
        (None, {"version": 2, "wifis": {"wlan0": {}}}),
        (None, {"version": 2, "wifis": {"wlan0": {"access-points": {"x": 1}}}}),
        ({"kubeedge": "x"}, None),
    ],
)
def test_what_is_no_mapping_is_refused(user_data: object, network: object) -> None:
    with pytest.raises(ValueError):
        cloud_init.fields(user_data, network)


@pytest.mark.parametrize(
    "value", [7, True, ["x"], {"a": {"b": 1}}, [["x"] * 9] * 9, None, "", "../..", "\n", b"x", 1.5]
)
def test_a_value_of_another_kind_is_refused_by_the_configuration_or_ignored(value: object) -> None:
    for name in ("hostname", "timezone", "users", "ssh_authorized_keys", "ntp", "growpart"):
        fields, _ = cloud_init.fields({name: value, "kubeedge": {"cloud": "c"}}, None)
        try:
            assert isinstance(config.parse({"name": "a", **fields}), config.CardConfig)
        except config.BadConfig:
            pass
    for name in ("addresses", "gateway4", "routes", "nameservers"):
        network = {"version": 2, "ethernets": {"eth0": {"addresses": ["10.0.0.1/8"], name: value}}}
        fields, _ = cloud_init.fields(None, network)
        try:
            config.parse({"name": "a", "cloud": "c", **fields})
        except config.BadConfig:
            pass


@pytest.mark.parametrize(
    "text",
    [
        "#cloud-config\nkubeedge:\n  token: t0ken # x\n  cloud: c\nhostname: a\n",
        "#cloud-config\nhostname: a\nkubeedge: {cloud: c, token: t0ken}\n",
        "#cloud-config\nhostname: a\nkubeedge:\n  cloud: c\n  token: >-\n    t0ken\n",
    ],
)
def test_the_token_goes_and_the_rest_stays(text: str) -> None:
    after = cloud_init.without_token(text)
    assert after.startswith("#cloud-config\n") and "t0ken" not in after
    assert yaml.safe_load(after) == {"hostname": "a", "kubeedge": {"cloud": "c"}}
    assert cloud_init.without_token(after) == after
