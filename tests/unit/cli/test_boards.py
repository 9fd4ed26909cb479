"""`kubeedge board`, and `kubeedge join` with a join key, in this process: many commands, one after the other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from kubeedge.api.names import DEFAULT_TENANT
from kubeedge.cli.main import main as kubeedge
from tests.unit.bootstrap.test_join import scenario
from tests.unit.cli.test_commands import AdminSocket
from tests.unit.cli.test_join import JOINED, files

SERIAL = "10000000abcdef01"


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Awaitable[Done]]:
    async def ran(*arguments: str) -> Done:
        status = await asyncio.to_thread(kubeedge, list(arguments))
        said = capsys.readouterr()
        return Done(status, said.out, said.err)

    return ran


@pytest.mark.root
def test_a_board_is_approved_and_joins_with_the_name_that_it_was_given(tmp_path, run):
    async def join(cloud, root, *more):
        where = ("--root-dir", str(root), "--no-start", "--wait", "0", *more, f"127.0.0.1:{cloud.port}")
        return await run("join", "--token-file", str(tmp_path / "key"), "--serial", SERIAL, *where)

    async def told(cloud):
        async with AdminSocket(cloud, tmp_path / "s") as socket:
            (tmp_path / "key").write_text((await run("token", "create", "--join-key", "--socket", socket)).stdout)
            assert "(boards)" in (await run("token", "list", "--socket", socket)).stdout
            waits = await join(cloud, tmp_path / "root")
            assert waits.returncode == 1 and f"board {SERIAL} waits for approval; its key is " in waits.stderr
            assert "next: `--wait SECONDS` asks for longer" in waits.stderr and "address" not in waits.stderr
            shown = waits.stderr.partition("its key is ")[2][:16]
            row = (await run("board", "list", "--socket", socket)).stdout.splitlines()[1].split()
            assert row[:5] == [SERIAL, "waiting", "-", shown, "127.0.0.1"]
            approved = await run("board", "approve", f"{SERIAL}=pump7", "--socket", socket)
            assert approved.stdout == f"board {SERIAL} is node pump7\n"
            joined = await join(cloud, tmp_path / "root")
            assert joined.returncode == 0 and "node pump7 of tenant default joined" in joined.stdout
            assert files(tmp_path / "root") == JOINED
            assert "has joined already" in (await join(cloud, tmp_path / "root")).stderr
            again = await join(cloud, tmp_path / "root", "--force")
            assert "neither joins before" in again.stderr, "it has another key"
            for verb in (("forget", SERIAL), ("approve", f"{SERIAL}=pump8")):
                assert (await run("board", *verb, "--socket", socket)).returncode == 0
            before = (tmp_path / "root/etc/kubeedge/node.json").read_text()
            again = await join(cloud, tmp_path / "root", "--force")
            assert "belongs to node pump7, not to pump8" in again.stderr
            assert (tmp_path / "root/etc/kubeedge/node.json").read_text() == before

    scenario(tmp_path, told)


@pytest.mark.root
def test_of_two_machines_with_one_serial_number_the_administrator_chooses(tmp_path, run):
    async def join(cloud, root):
        where = ("--root-dir", str(root), "--no-start", "--wait", "0", f"127.0.0.1:{cloud.port}")
        return await run("join", "--token-file", str(tmp_path / "key"), "--serial", SERIAL, *where)

    async def told(cloud):
        async with AdminSocket(cloud, tmp_path / "s") as socket:
            (tmp_path / "key").write_text(str(await cloud.tokens.create(DEFAULT_TENANT, "", 3600.0, join_key=True)))
            await join(cloud, tmp_path / "root")
            other = await join(cloud, tmp_path / "other")
            assert other.returncode == 1 and "neither joins before" in other.stderr
            rows = [line.split() for line in (await run("board", "list", "--socket", socket)).stdout.splitlines()[1:]]
            assert [row[:2] for row in rows] == [[SERIAL, "contested"]] * 2 and rows[0][3] != rows[1][3]
            assert rows[1][3] in other.stderr, "what the machine itself says is what is compared"
            chosen = await run("board", "approve", f"{SERIAL}=pump7", "--key", rows[1][3], "--socket", socket)
            assert chosen.stdout == f"board {SERIAL} is node pump7\n"
            assert (await join(cloud, tmp_path / "other")).returncode == 0
            refused = await join(cloud, tmp_path / "root")
            assert f"board forget {SERIAL}" in refused.stderr, "somebody has chosen; no other key contests it"

    scenario(tmp_path, told)


def test_a_list_of_boards(tmp_path, run):
    (tmp_path / "list").write_text("# bought in May\n52:54:00:12:34:56,gate\n\n10000000abcdef02;\n")

    async def told(cloud):
        async with AdminSocket(cloud, tmp_path / "s") as socket:
            done = await run("board", "approve", SERIAL, "--file", str(tmp_path / "list"), "--socket", socket)
            assert done.returncode == 0, done.stderr
            boards = json.loads((await run("board", "list", "-o", "json", "--socket", socket)).stdout)
            assert [(board["serial"], board["node"], board["state"]) for board in boards] == [
                (SERIAL, f"card-{SERIAL}", "expected"),
                ("10000000abcdef02", "card-10000000abcdef02", "expected"),
                ("52:54:00:12:34:56", "gate", "expected"),
            ]
            assert (await run("board", "forget", "52:54:00:12:34:56", "--socket", socket)).returncode == 0
            done = await run("board", "approve", "pre-1", "pre-2", "--from", "192.0.2.0/24", "--socket", socket)
            assert done.returncode == 0, done.stderr
            assert (await run("board", "list", "--socket", socket)).stdout.count("192.0.2.0/24") == 2
            done = await run("board", "forget", "--prefix", "pre-", "--state", "expected", "--socket", socket)
            assert done.stdout == "board pre-1 is forgotten\nboard pre-2 is forgotten\n"
            for arguments, words in (
                (("forget", "52:54:00:12:34:56"), "no board"),
                (("approve", "abc"), "serial: "),
                (("approve", f"{SERIAL}=Other"), "Other"),
                (("approve", f"{SERIAL}=other"), "forget it first"),
            ):
                done = await run("board", *arguments, "--socket", socket)
                assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr, done.stderr
            (tmp_path / "list").write_text("SERIAL,NAME\n")
            done = await run("board", "approve", "pre-1=one", "--file", str(tmp_path / "list"), "--socket", socket)
            assert (done.returncode, done.stdout) == (1, "board pre-1 is node one\n")
            assert "board SERIAL: node name 'NAME'" in done.stderr and "next: 1 before it are approved" in done.stderr

    scenario(tmp_path, told)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("board", "approve"), "which boards?"),
        (("board", "approve", "=pump7"), "without a serial number"),
        (("board", "approve", "--file", "LIST"), "line 1 of the list"),
        (("board", "approve", "one1", "two2", "--key", "abcdef012"), "a key is that of one board"),
        (("board", "forget"), "which boards?"),
        (("board", "forget", "one1", "--all"), "which boards?"),
        (("board", "approve", "--file", "/nonexistent"), "cannot read the list"),
        (("join", "--token", f"{'0' * 64}.abcdef.{'a' * 32}", "--serial", SERIAL, "--name", "x", "host"), "name"),
    ],
)
def test_what_is_missing_is_said(tmp_path, capsys, arguments, words):
    (tmp_path / "list").write_text("a b c\n")
    arguments = [str(tmp_path / "list") if word == "LIST" else word for word in arguments]
    assert kubeedge(arguments) == 2
    assert words in capsys.readouterr().err


def test_a_list_that_is_too_long_is_not_cut(tmp_path, capsys):
    (tmp_path / "list").write_text("10000000abcdef01\n" * 70_000)
    assert kubeedge(["board", "approve", "--file", str(tmp_path / "list"), "--socket", "/nonexistent"]) == 2
    assert "longer than" in capsys.readouterr().err
