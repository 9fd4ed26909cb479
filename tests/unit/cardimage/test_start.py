"""From the file on the boot partition to the agent: a machine that has joined starts its agent whatever is on the card; one that has not says why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

import kubeedge.cli.main as commands
from kubeedge.config.edge import EdgeConfig
from kubeedge_card import __main__ as start
from kubeedge_card import boot_partition, led, machine, status

FILE = {"name": "cam7", "cloud": "cloud.example", "token": "t0ken"}


class Agent(Exception):
    """It was started."""


class Card:
    """The directories of a machine, whose network and cloud are not there."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self.boot, self.etc = directory / "boot", directory / "etc"
        self.refusal, self.joins, self.named = "", 0, "cam7"
        for path in (self.boot, self.etc):
            path.mkdir()
        patch.setattr(boot_partition, "DIRECTORY", self.boot)
        patch.setattr(boot_partition, "_remount", lambda mode: None)
        for name, file in {"_JOINED": "node.json", "_LAST": "card.yaml", "_AGENT_CONFIG": "kubeedge.yaml"}.items():
            patch.setattr(start, name, self.etc / file)
        patch.setattr(led, "_LEDS", directory / "leds")
        for name in ("_PAUSE", "_PROBLEM"):
            patch.setattr(start, name, directory / name)
        for name in ("name", "network", "clock", "zone", "ssh", "addresses"):
            patch.setattr(machine, name, lambda *arguments: "")
        patch.setattr(start, "_never_wait_for_console", lambda: None)  # this terminal is no card's
        patch.setattr(commands, "main", self._join)
        patch.setattr(start.agent_process, "become", self._become)

    def _join(self, arguments: list[str]) -> int:
        self.joins += 1
        self.asked = arguments
        if self.refusal:
            print(self.refusal, file=start.sys.stderr)
            return 1
        names = ("tenant", "node", "address", "podCIDR")
        values = ("default", self.named, "100.64.0.1/16", "10.244.1.0/24")
        endpoints = {"hub": ["h:1"], "relays": ["h:2"], "bootstrap": ["h:3"]}
        node = {**dict(zip(names, values, strict=True)), "number": 1, **endpoints}
        (self.etc / "node.json").write_text(json.dumps(node))
        return 0

    def _become(self, agent: EdgeConfig, *arguments: object) -> None:
        self.agent = agent
        raise Agent

    def write(self, text: str) -> None:
        (self.boot / start.FILE).write_text(text)

    @property
    def said(self) -> str:
        return (self.boot / status.NAME).read_text()

    @property
    def works(self) -> bool:
        try:
            start.main()
        except Agent:
            return True
        return False


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Card:
    return Card(tmp_path, monkeypatch)


def test_the_first_start_joins_and_the_token_goes(card: Card) -> None:
    card.write(f"# mine\n{yaml.safe_dump(FILE)}")
    assert card.works and card.joins == 1 and "state: joined" in card.said
    text = (card.boot / start.FILE).read_text()
    assert "t0ken" not in text and "# mine" in text
    assert "t0ken" not in (card.etc / "card.yaml").read_text()
    assert card.works and card.joins == 1, "the next start needs no token"


def test_a_refusal_is_said_without_the_token_and_tried_again_ever_later(card: Card, tmp_path: Path) -> None:
    card.write(yaml.safe_dump(FILE))
    card.refusal = "t0ken has expired"
    pauses = []
    for _ in range(7):
        assert not card.works
        pauses.append(int((tmp_path / "_PAUSE").read_text()))
    assert pauses == [2, 4, 8, 16, 32, 60, 60]
    assert "state: failed" in card.said and "TOKEN has expired" in card.said and "t0ken" not in card.said
    card.refusal = ""
    assert card.works and not (tmp_path / "_PAUSE").exists()


@pytest.mark.parametrize("rest", ["", "\0", "\xff"], ids=["cut", "zeros", "garbage"])
def test_a_file_that_was_half_written_ends_no_machine_and_shows_no_token(card: Card, rest: str) -> None:
    network = {"wifi": {"ssid": "plant", "password": "pa55word", "country": "DE"}, "nameservers": ["192.0.2.1"]}
    whole = yaml.safe_dump({**FILE, "network": network, "timeZone": "Europe/Berlin"}, sort_keys=False)
    for cut in range(0, len(whole), 3):
        (card.boot / start.FILE).write_bytes((whole[:cut] + rest * (len(whole) - cut)).encode("latin-1"))
        card.joins = 0
        works = card.works
        assert works == (card.joins == 1), "it joins with what is there, or says what is wrong"
        assert ("state: joined" in card.said) if works else ("state: failed" in card.said and "reason:" in card.said)
        assert "t0ken" not in card.said and "pa55word" not in card.said
        (card.etc / "node.json").unlink(missing_ok=True)
        (card.etc / "card.yaml").unlink(missing_ok=True)
    card.write(whole)
    assert card.works, "the next start with a whole one needs nothing else"


#: 9 ** 30 values, when somebody looks at all of them
BOMB = "\n".join(
    [
        *(f"{name}: {value}" for name, value in FILE.items()),
        "agent:\n  a0: &a0 [x]",
        *(f"  a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 31)),
    ]
)


@pytest.mark.parametrize(
    "text", [None, "", "name: [", "name: cam7", "\0", "a: &a [*a, *a]", BOMB, "x" * 70_000, "- " * 2_000]
)
def test_what_cannot_be_used_is_said_and_keeps_no_node_from_working(card: Card, text: str | None) -> None:
    if text is not None:
        card.write(text)
    assert not card.works and "state: failed" in card.said
    card.write(yaml.safe_dump(FILE))
    assert card.works
    (card.boot / start.FILE).unlink() if text is None else card.write(text)
    assert card.works and "what was there before is used" in card.said


#: YAML that can be read, and not be written again: lists in lists, numbers of thousands of digits
UNWRITABLE = ("[" * 350 + "]" * 350, f"0x{'f' * 5000}")


@pytest.mark.parametrize("value", UNWRITABLE)
@pytest.mark.parametrize("has_joined", [False, True])
def test_what_can_be_read_and_not_written_again_keeps_no_node_from_working(
    card: Card, value: str, has_joined: bool
) -> None:
    if has_joined:
        card.write(yaml.safe_dump(FILE))
        assert card.works
    for text in (f"name: cam7\ncloud: c\ntoken: t0ken\nagent:\n  x: {value}\n",
                 f"{{name: cam7, cloud: c, token: t0ken, agent: {{x: {value}}}}}\n"):  # fmt: skip
        card.write(text)
        assert card.works or (not has_joined and "state: failed" in card.said)
        assert "t0ken" not in card.said
    card.write(yaml.safe_dump(FILE))
    assert card.works
    (card.boot / "user-data").write_text(f"kubeedge:\n  agent:\n    x: {value}\n")
    assert card.works


def test_a_configuration_of_the_agent_that_is_wrong_leaves_the_one_before(card: Card) -> None:
    card.write(yaml.safe_dump({**FILE, "agent": {"node": {"labels": ["a=b"]}}}))
    assert card.works
    before = (card.etc / "kubeedge.yaml").read_text()
    assert "a=b" in before
    card.write(yaml.safe_dump({**FILE, "agent": {"nodule": 1}}))
    assert card.works and "nodule" in card.said
    assert (card.etc / "kubeedge.yaml").read_text() == before


def test_a_problem_of_the_card_itself_is_said(card: Card, tmp_path: Path) -> None:
    (tmp_path / "_PROBLEM").write_text("the card cannot be written\n")
    card.write(yaml.safe_dump(FILE))
    assert card.works and "the card cannot be written" in card.said


USER_DATA = """#cloud-config
hostname: Cam7.plant.example
ssh_authorized_keys: []
kubeedge:
  cloud: cloud.example   # ours
  token: t0ken
runcmd: [reboot]
"""


def test_what_imager_writes_is_enough_and_its_token_goes(card: Card) -> None:
    (card.boot / "user-data").write_text(USER_DATA)
    (card.boot / "network-config").write_text("# nothing is set\n")
    assert card.works and card.joins == 1 and "name: cam7" in card.said
    assert "ignored: user-data: runcmd" in card.said
    text = (card.boot / "user-data").read_text()
    assert text == USER_DATA.replace("  token: t0ken\n", "")
    assert "t0ken" not in (card.etc / "card.yaml").read_text()
    assert card.works and card.joins == 1


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "---\n", "null\n"])
def test_a_file_with_nothing_in_it_beside_those_of_imager(card: Card, text: str) -> None:
    """It has no token that could be removed; nor does it keep a node from working."""
    (card.boot / "user-data").write_text(USER_DATA)
    card.write(text)
    assert card.works and "state: joined" in card.said
    assert "t0ken" not in (card.boot / "user-data").read_text() and (card.boot / start.FILE).read_text() == text
    assert card.works and card.joins == 1


@pytest.mark.parametrize("data", [b"\xff\xfe", bytes(4096), b"name: [", b""])
def test_a_memory_that_is_worn_is_written_again(card: Card, data: bytes) -> None:
    card.write(yaml.safe_dump(FILE))
    assert card.works
    (card.etc / "card.yaml").write_bytes(data)
    (card.boot / start.FILE).rename(card.boot / "away")
    assert not card.works and "state: failed" in card.said
    (card.boot / "away").rename(card.boot / start.FILE)
    assert card.works and yaml.safe_load((card.etc / "card.yaml").read_text())["name"] == "cam7"


def test_kubeedge_yaml_has_the_last_word(card: Card) -> None:
    (card.boot / "user-data").write_text(USER_DATA)
    card.write("name: other\n")
    assert card.works and "name: other" in card.said


@pytest.mark.parametrize(
    "text",
    [
        "#cloud-config\n: [",
        "- 1",
        "text",
        "kubeedge: [1]",
        "kubeedge: {name: [x]}",
        "hostname: [1, 2]\nkubeedge: {cloud: c}",
        "users: {a: 1}",
        "a: &a [*a, *a]",
        "\0",
        "x" * 70_000,
        "[" * 3000,
    ],
)
@pytest.mark.parametrize("name", ["user-data", "network-config"])
def test_files_of_imager_that_cannot_be_used_are_said(card: Card, name: str, text: str) -> None:
    (card.boot / name).write_text(text)
    assert not card.works and "state: failed" in card.said
    (card.boot / name).unlink()
    card.write(yaml.safe_dump(FILE))
    assert card.works
    (card.boot / name).write_text(text)
    assert card.works, "it has joined: nothing on the card keeps it from working"


@pytest.mark.parametrize("step", ["name", "zone", "network", "ssh", "clock"])
def test_a_step_that_fails_in_any_way_keeps_no_node_from_working(
    card: Card, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fails(*arguments: object) -> str:
        raise UnicodeError("label empty or too long")

    monkeypatch.setattr(machine, step, fails)
    card.write(yaml.safe_dump(FILE))
    assert card.works and "label empty or too long" in card.said


def test_a_led_shows_how_far_it_has_come(tmp_path: Path, card: Card) -> None:
    act = tmp_path / "leds" / "ACT"
    act.mkdir(parents=True)
    assert not card.works and (act / "trigger").read_text() == "timer" and (act / "delay_on").read_text() == "100"
    card.write(yaml.safe_dump(FILE))
    assert card.works and (act / "trigger").read_text() == "heartbeat"


def test_the_agent_gets_its_configuration_from_this_process(card: Card) -> None:
    card.write(yaml.safe_dump({**FILE, "agent": {"modules": {"mesh": {"enable": True}}}}))
    assert card.works and card.agent.modules.mesh.enable
    (card.etc / "kubeedge.yaml").unlink()
    card.write(yaml.safe_dump(FILE))
    assert card.works and card.agent == EdgeConfig()


def test_a_configuration_that_the_card_asks_for_no_more_is_not_kept(card: Card) -> None:
    wanted = {"modules": {"mesh": {"enable": True}}}
    card.write(yaml.safe_dump({**FILE, "agent": wanted}))
    card.refusal = "no cloud"
    assert not card.works and "mesh" in (card.etc / "kubeedge.yaml").read_text()
    card.write(yaml.safe_dump(FILE))
    card.refusal = ""
    assert card.works and card.agent == EdgeConfig(), "it was taken back before the machine had joined"
    card.write(yaml.safe_dump({**FILE, "agent": wanted}))
    assert card.works and card.agent.modules.mesh.enable
    card.write(yaml.safe_dump(FILE))
    assert card.works and card.agent == EdgeConfig()
    (card.etc / "kubeedge.yaml").write_text("modules: {mesh: {enable: true}}")
    assert card.works and card.agent.modules.mesh.enable, "what somebody has written on the machine itself stays"


def test_a_configuration_that_this_agent_refuses_is_said_on_the_card(card: Card) -> None:
    """An older one wrote it, say."""
    card.write(yaml.safe_dump(FILE))
    assert card.works
    (card.etc / "kubeedge.yaml").write_text("modules: {mesh: {enabled: true}}")
    assert not card.works and "state: failed" in card.said and "did you mean modules.mesh.enable?" in card.said


@pytest.mark.parametrize("text", ["", "{", '{"node": "cam7"}', "\0" * 4096])
def test_a_card_that_has_lost_who_it_is_says_so_and_joins_again_with_a_token(card: Card, text: str) -> None:
    card.write(yaml.safe_dump(FILE))
    assert card.works
    (card.etc / "node.json").write_text(text)
    assert not card.works and "state: failed" in card.said and "node.json is damaged" in card.said
    card.write(yaml.safe_dump(FILE))
    assert card.works and card.joins == 2 and "--force" in card.asked and "state: joined" in card.said
    assert card.works and card.joins == 2


JOIN_KEY = {"cloud": "cloud.example", "joinKey": "s3cret", "network": {"interface": "eth7"}}


def test_a_board_with_a_join_key_has_its_name_from_the_cloud(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "serial", lambda interface: "10000000ABCDEF01")
    names: list[str] = []
    monkeypatch.setattr(machine, "name", names.append)
    card.write(yaml.safe_dump(JOIN_KEY))
    card.refusal = "board 10000000ABCDEF01 waits for approval; s3cret"
    assert not card.works and "waits for approval; TOKEN" in card.said and "name: card-10000000abcdef01" in card.said
    assert "state: joining" in card.said, "nothing is wrong with it"
    assert (
        card.asked[:5] == ["join", "--token", "s3cret", "--serial", "10000000ABCDEF01"] and "--name" not in card.asked
    )
    card.refusal = "another machine asks with the serial number 10000000ABCDEF01, too"
    assert not card.works and "state: failed" in card.said
    card.refusal, card.named = "", "pump7"
    assert card.works and names == ["card-10000000abcdef01"] * 3 + ["pump7"] and "name: pump7" in card.said
    assert "s3cret" not in (card.boot / start.FILE).read_text() + (card.etc / "card.yaml").read_text()
    assert card.works and card.joins == 3 and names[-1] == "pump7", "the file has no name, and needs none any more"
    (card.etc / "node.json").write_text("{")
    assert not card.works and "node.json is damaged" in card.said
    card.write(yaml.safe_dump(JOIN_KEY))
    assert card.works and card.joins == 4 and "name: pump7" in card.said


def test_a_join_key_needs_a_serial_number_and_no_name(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "serial", lambda interface: "")
    card.write(yaml.safe_dump(JOIN_KEY))
    assert not card.works and "no serial number" in card.said
    card.write(yaml.safe_dump({**JOIN_KEY, "name": "pump7"}))
    assert not card.works and "only without name and token" in card.said
    card.write(yaml.safe_dump({"cloud": "cloud.example"}))
    assert not card.works and "name: missing" in card.said


def test_a_network_that_is_not_there_is_said_beside_what_follows_of_it(
    card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "network", lambda wanted: f"no address by DHCP on {wanted.interface}: no lease")
    card.write(yaml.safe_dump(FILE))
    card.refusal = "cannot reach the cloud at cloud.example:10002: Network is unreachable"
    assert not card.works and "no address by DHCP on eth0" in card.said and "Network is unreachable" in card.said
    card.refusal = ""
    assert card.works and "no address by DHCP" in card.said, "it is a node; why it is alone is still said"


def test_a_card_that_is_full_or_read_only_says_so(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    card.write(yaml.safe_dump(FILE))

    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(start, "_private_text", full)
        assert not card.works and "No space left on device" in card.said
    assert card.works


def test_a_boot_partition_that_cannot_be_written_keeps_no_node_from_working(
    card: Card, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def worn(mode: str) -> None:
        raise OSError(30, "the boot partition cannot be mounted rw")

    monkeypatch.setattr(boot_partition, "_remount", worn)
    card.write(yaml.safe_dump(FILE))
    assert card.works and "token" in (card.boot / start.FILE).read_text()
    shown = capsys.readouterr().out
    assert "cannot be mounted rw" in shown and "the token is still on the card" in shown and "t0ken" not in shown
