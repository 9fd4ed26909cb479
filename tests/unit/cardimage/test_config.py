"""The file on the boot partition: what it may say, what is refused and how, and that its token can be taken out."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from kubeedge_card import config, document, sntp, status, wireless
from kubeedge_card.config import BadConfig, CardConfig, Network, Wifi

GOOD: dict[str, Any] = {"name": "cam7", "cloud": "cloud.example:10002", "token": "t0ken.secret"}


def test_the_example_is_a_configuration() -> None:
    from cardimage.root import FILES

    text = (FILES / "kubeedge.yaml.example").read_text()
    parsed = config.parse(yaml.safe_load(text))
    assert (parsed.name, parsed.cloud, parsed.network) == ("cam7", "cloud.example", Network())
    # and so is each of its lines that are commented out
    more = config.parse(yaml.safe_load(text.replace("\n#", "\n").replace("AAAA...", "A" * 40)))
    wifi = Wifi("plant", "12345678", "DE")
    assert more.network == Network("eth0", "192.168.1.7/24", "192.168.1.1", ("192.168.1.1",), wifi)
    assert more.time_zone == "Europe/Berlin" and more.ssh_keys == (f"ssh-ed25519 {'A' * 40} me@desk",)


def test_names_that_yaml_reads_as_numbers_are_names() -> None:
    assert config.parse({**GOOD, "name": 7, "token": 123}) == CardConfig("7", "cloud.example:10002", "123")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": None}, "name: missing"),
        ({"name": "Cam_7"}, "name: expected"),
        ({"name": "cam7.plant"}, "name: expected"),
        ({"name": "a" * 64}, "name: expected"),
        ({"name": True}, "name: expected"),
        ({"name": ["x"]}, "name: expected"),
        ({"cloud": "a b"}, "cloud: expected"),
        ({"cloud": "-x; reboot"}, "cloud: expected"),
        ({"token": "a\nb"}, "token: expected"),
        ({"token": "-" + "x" * 2000}, "token: expected"),
        ({"wifi": {}}, "wifi: unknown"),
        ({"network": []}, None),
        ({"network": [1]}, "network: fields"),
        ({"network": {"interface": "-i"}}, "network.interface: expected"),
        ({"network": {"address": "192.168.1.7"}}, "without the length"),
        ({"network": {"address": "192.168.1.700/24"}}, "network: "),
        ({"network": {"gateway": "192.168.1.1"}}, "only beside an address"),
        ({"network": {"nameservers": ["x.example"]}}, "network: "),
        ({"network": {"ssid": "x"}}, "network.ssid: unknown"),
        ({"network": {"wifi": [1]}}, "network.wifi: fields"),
        ({"network": {"wifi": {"password": "12345678"}}}, "ssid: expected"),
        ({"network": {"wifi": {"ssid": "\u00e9" * 17}}}, "ssid: expected"),
        ({"network": {"wifi": {"ssid": "a\nb"}}}, "ssid: expected"),
        ({"network": {"wifi": {"ssid": [["x"] * 9] * 9}}}, "ssid: expected"),
        ({"network": {"wifi": {"ssid": "x", "password": "short"}}}, "password: expected"),
        ({"network": {"wifi": {"ssid": "x", "password": 'a"\n}\nnetwork={'}}}, "password: expected"),
        ({"network": {"wifi": {"ssid": "x", "country": "Germany"}}}, "network.wifi.country: expected"),
        ({"network": {"wifi": {"ssid": "x", "hidden": "no"}}}, "hidden: expected"),
        ({"timeZone": "../../etc/passwd"}, "timeZone: expected"),
        ({"timeZone": "/etc/passwd"}, "timeZone: expected"),
        ({"timeServers": ["x"] * 17}, "timeServers: expected"),
        ({"sshKeys": "ssh-ed25519 AAAA"}, "sshKeys: expected"),
        ({"sshKeys": ['command="x" ssh-ed25519 ' + "A" * 40]}, "sshKeys: expected"),
        ({"sshKeys": [f"ssh-ed25519 {'A' * 40} x\nssh-rsa {'A' * 40}"]}, "sshKeys: expected"),
        ({"agent": ["x"]}, "agent: fields"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], said: str | None) -> None:
    if said is None:
        config.parse({**GOOD, **change})
        return
    with pytest.raises(BadConfig) as refused:
        config.parse({**GOOD, **change})
    assert said in str(refused.value)
    assert "t0ken" not in str(refused.value)


@pytest.mark.parametrize("written", ["0123456712", "0x12345678", "1_000_000_0", "12:34:56:78", "+12345678", "12345678"])
def test_a_password_of_digits_is_what_is_written(written: str) -> None:
    """YAML 1.1 has numbers with a base of 8, 16 and 60."""
    text = f"name: a\ncloud: c\nnetwork: {{wifi: {{ssid: 007, password: {written}}}}}\n"
    for form in (
        text,
        config.without_token(f'{{"token": "abc", {yaml.safe_dump(document.plain(text), default_flow_style=True)[1:]}'),
    ):
        network = config.parse(document.load("kubeedge.yaml", form)).network
        assert network.wifi == Wifi("007", written), form
    assert document.plain("[0, 7, -1, 240, 1.5, true]") == [0, 7, -1, 240, 1.5, True]


@pytest.mark.parametrize("found", [None, "text", 7, [GOOD], {1: 2}])
def test_what_is_no_mapping_is_refused(found: object) -> None:
    with pytest.raises(BadConfig, match="fields are expected"):
        config.parse(found)


def test_a_token_is_in_no_representation() -> None:
    assert "t0ken" not in repr(config.parse(GOOD))


@pytest.mark.parametrize(
    "token", ["token: abc", "token : 'abc'   # mine", "token: >-\n  abc\n  def", "token:\n  abc", "token: |\n\n  abc\n"]
)
@pytest.mark.parametrize(
    "form", ["# kept\nname: a\n{}\ncloud: b # there\n", "{}\nname: a\ncloud: b\n", "name: a\ncloud: b\n{}"]
)
def test_the_token_goes_and_everything_else_stays(token: str, form: str) -> None:
    text = form.format(token)
    after = config.without_token(text)
    assert yaml.safe_load(after) == {"name": "a", "cloud": "b"}
    assert "abc" not in after and ("# kept" in after) == ("# kept" in text)


def test_a_token_in_another_form_of_yaml_goes_too() -> None:
    after = config.without_token('{"name": "a", "token": "abc", "cloud": "b"}')
    assert yaml.safe_load(after) == {"name": "a", "cloud": "b"}


def test_an_answer_of_a_time_server_says_the_time_in_either_era() -> None:
    nonce = 0x0123456789ABCDEF
    asked = sntp.request(nonce)
    head = bytes([0x24, 2, 0, 0]) + bytes(20)
    for seconds in (1_700_000_000, 2_200_000_000):
        stamp = ((seconds + 2_208_988_800) % (1 << 32)).to_bytes(4) + b"\x80\0\0\0"
        assert sntp.answer(head + asked[40:] + bytes(8) + stamp, nonce, 1_690_000_000) == seconds + 0.5
    good = head + asked[40:] + bytes(8) + bytes(8)
    assert sntp.answer(good[:47], nonce, 0) is None
    assert sntp.answer(good, nonce + 1, 0) is None
    assert sntp.answer(b"\xe4" + good[1:], nonce, 0) is None, "its clock is not set"
    assert sntp.answer(b"\x24\x00" + good[2:], nonce, 0) is None, "a kiss of death"


def test_the_status_is_lines_that_any_editor_shows() -> None:
    text = status.text("failed", "no\x1b[31m\nanswer", name="a", addresses="", version="1", now=0)
    assert text == (
        "state: failed\r\ntime: 1970-01-01T00:00:00Z\r\nname: a\r\naddresses: none\r\nkubeedge: 1\r\n"
        "reason:\r\n  no?[31m\r\n  answer\r\n"
    )
    assert len(status.text("failed", "x" * 9999, name="", addresses="", version="1", now=0)) < 2200


def test_an_access_point_is_a_network_of_wpa_supplicant() -> None:
    network = config.parse(
        {**GOOD, "network": {"wifi": {"ssid": "Caf\u00e9", "password": 'p"}\\ ss ', "hidden": True}}}
    ).network
    assert network.interface == "wlan0" and network.wifi is not None
    text = wireless.wpa_supplicant(network.wifi)
    assert "ssid=436166c3a9\n" in text and 'psk="p"}\\ ss "\n' in text and "scan_ssid=1" in text and "SAE" in text
    assert 'p"}' not in repr(network)
    assert "psk=" not in wireless.wpa_supplicant(Wifi("x")) and "key_mgmt=NONE" in wireless.wpa_supplicant(Wifi("x"))
    assert f"psk={'ab' * 32}\n" in wireless.wpa_supplicant(Wifi("x", "ab" * 32, "DE"))
