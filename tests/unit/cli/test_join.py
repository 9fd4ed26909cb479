"""`kubeedge join` and `kubeedge reset` as processes, against a bootstrap port on loopback."""

from __future__ import annotations

import asyncio
import http.server
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from kubeedge.cli import join, reset
from kubeedge.cli.errors import CommandError, UsageError
from kubeedge.config import edge, node_credentials
from kubeedge.pki import tokens, trust
from kubeedge_cloud.authority.ca import Authority
from tests.unit.bootstrap.cloud import Cloud
from tests.unit.bootstrap.test_join import scenario

pytestmark = pytest.mark.root  # join refuses to run without: the agent would not work

DAY = 86400.0


def run(*arguments: str, stdin: str = "", faults: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kubeedge", *arguments],
        capture_output=True, text=True, input=stdin, timeout=30, env={**os.environ, "KUBEEDGE_FAULTS": faults},
    )  # fmt: skip


async def join_as_process(cloud: Cloud, token: tokens.Token, root: Path, *more: str, name: str = "edge1", **options):
    arguments = [
        "join",
        "--token-file",
        "-",
        "--name",
        name,
        "--root-dir",
        str(root),
        "--no-start",
        "--wait",
        "0",
        *more,
    ]
    return await asyncio.to_thread(run, *arguments, f"127.0.0.1:{cloud.port}", stdin=str(token) + "\n", **options)


def files(root: Path) -> set[str]:
    return {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()}


class Portal(http.server.BaseHTTPRequestHandler):
    """A network that wants somebody to sign in first: it answers for whoever is asked."""

    def do_GET(self) -> None:
        page = b"<html>Welcome to the plant's guest network</html>"
        self.send_response(302 if self.path == "/ca.crt" else 200)
        self.send_header("location", "http://portal.example/")
        self.send_header("content-length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)


def test_a_captive_portal_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    token = tokens.Token(id="abcdef", secret="abcdefgh" * 4, ca_hash="0" * 64)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Portal) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        arguments = ("--token-file", "-", "--name", "cam7", "--root-dir", str(tmp_path), "--no-start", "--wait", "0")
        done = run("join", *arguments, f"127.0.0.1:{server.server_port}", stdin=f"{token}\n")
        server.shutdown()
    assert done.returncode and "status 302" in done.stderr and "until somebody signs in" in done.stderr
    assert not [name for name in files(tmp_path) if "node.json" in name or name.endswith(".crt")]


JOINED = {
    "etc/kubeedge/kubeedge.yaml", "etc/kubeedge/node.json", "etc/kubeedge/pki/ca.crt", "etc/kubeedge/pki/node.crt",
    "etc/kubeedge/pki/node.key", "var/lib/kubeedge/edge/.kubeedge",
}  # fmt: skip


def test_join_writes_what_the_agent_needs_and_nothing_that_others_can_read(tmp_path):
    async def told(cloud):
        root = tmp_path / "root"
        done = await join_as_process(cloud, await cloud.token("edge1"), root)
        assert done.returncode == 0, done.stderr
        assert done.stdout == "node edge1 of tenant default joined; overlay address 100.64.0.1\n"
        assert f"next: start the agent with `kubeedge edge --root-dir {root}`" in done.stderr
        assert files(root) == JOINED
        paths = edge.at_root(root)
        assert edge.load(root / "etc/kubeedge/kubeedge.yaml").paths == paths
        node = node_credentials.load_credentials(node_credentials.credentials_path(paths))
        assert (node.node, node.number, node.hub) == ("edge1", 1, ("127.0.0.1:10000",))
        assert trust.fits(paths.pki / "node.crt", paths.pki / "node.key")
        assert {(root / f).stat().st_mode & 0o077 for f in JOINED} == {0}

    scenario(tmp_path, told)


def test_join_prints_json_for_programs(tmp_path):
    async def told(cloud):
        done = await join_as_process(cloud, await cloud.token(), tmp_path / "root", "-o", "json")
        assert json.loads(done.stdout)["podCIDR"] == "10.244.1.0/24"

    scenario(tmp_path, told)


@pytest.mark.parametrize(
    "reason", ["used", "expired", "revoked", "wrong node", "other cloud", "taken", "no cloud", "not a cloud"]
)
def test_what_is_wrong_is_one_line_and_what_to_do_next_another(tmp_path, reason):
    async def told(cloud):
        token, words, advice = await cloud.token("edge1"), "", "make a new token"
        match reason:
            case "used":
                await cloud.join(token, "edge1")
                words = "this token was used already, for node edge1; a token works once"
            case "expired":
                token, words = await cloud.token("edge1", ttl=0.001), "this token expired"
            case "revoked":
                await cloud.tokens.revoke("default", token.id)
                words = "this token was revoked"
            case "wrong node":
                token, words, advice = await cloud.token("edge2"), "for node edge2, not for edge1", "--name edge2"
            case "other cloud":
                token = tokens.Token(Authority(tmp_path / "o").hash, token.id, token.secret)
                words, advice = "is not the one that the token names", ""
            case "taken":
                await cloud.join(await cloud.token("edge1"), "edge1")
                words, advice = "node edge1 exists in tenant default", "--replace"
            case "no cloud":
                await cloud.__aexit__()
                words, advice = "cannot reach the cloud at 127.0.0.1:", "check the address"
            case "not a cloud":

                async def rude(reader, writer):
                    writer.write(b"null\r\n")
                    writer.close()
                    await writer.wait_closed()

                await cloud.__aexit__()
                server = await asyncio.start_server(rude, "127.0.0.1", cloud.port)
                words, advice = "cannot reach the cloud", "check the address"
        done = await join_as_process(cloud, token, tmp_path / "root")
        if reason == "not a cloud":
            server.close()
            await server.wait_closed()
        assert (done.returncode, done.stdout) == (1, "")
        problem, *hints = [line for line in done.stderr.splitlines() if not line.startswith("warning")]
        assert problem.startswith("kubeedge join: ") and words in problem
        assert len(hints) == (1 if advice else 0) and all(h.startswith("next: ") and advice in h for h in hints)
        assert str(token.secret) not in done.stderr
        assert "etc/kubeedge/node.json" not in files(tmp_path / "root")

    scenario(tmp_path, told)


def test_join_says_at_once_what_it_waits_for(tmp_path):
    async def told(cloud):
        token, port = await cloud.token(), cloud.port
        cloud._running.cancel()
        await asyncio.gather(cloud._running, return_exceptions=True)
        command = ["join", "--token-file", "-", "--name", "edge1", "--root-dir", str(tmp_path / "r"), "--no-start"]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "kubeedge", *command, "--wait", "300", f"127.0.0.1:{port}",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            process.stdin.write(str(token).encode())
            process.stdin.close()
            async with asyncio.timeout(60):
                lines = [line.decode() async for line in _until_it_tries(process.stderr)]
            assert f"cannot reach the cloud at 127.0.0.1:{port}: Connection refused" in lines[-1]
            object.__setattr__(cloud.module._settings, "port", port)
            cloud._running = asyncio.create_task(cloud.module.run(asyncio.Event()))
            rest = await process.stderr.read()
            assert await process.wait() == 0 and b"trying for" not in rest, rest
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    scenario(tmp_path, told)


async def _until_it_tries(stream):
    async for line in stream:
        yield line
        if b"trying for" in line:
            return


def test_join_waits_for_a_cloud_that_is_not_there_yet(tmp_path):
    async def told(cloud):
        token, port = await cloud.token(), cloud.port
        cloud._running.cancel()
        await asyncio.gather(cloud._running, return_exceptions=True)
        command = ["join", "--token-file", "-", "--name", "edge1", "--root-dir", str(tmp_path / "r"), "--no-start"]
        command += ["--wait", "30"]
        joining = asyncio.create_task(asyncio.to_thread(run, *command, f"127.0.0.1:{port}", stdin=str(token)))
        await asyncio.sleep(0.5)
        object.__setattr__(cloud.module._settings, "port", port)
        cloud._running = asyncio.create_task(cloud.module.run(asyncio.Event()))
        assert (await joining).returncode == 0

    scenario(tmp_path, told)


def test_join_does_not_wait_where_nothing_listens_unless_it_is_told_to(tmp_path):
    async def told(cloud):
        token, port = await cloud.token(), cloud.port
        cloud._running.cancel()
        await asyncio.gather(cloud._running, return_exceptions=True)
        begun = time.monotonic()
        command = ["join", "--token", str(token), "--name", "edge1", "--root-dir", str(tmp_path / "r"), "--no-start"]
        done = await asyncio.to_thread(run, *command, f"127.0.0.1:{port}")
        assert done.returncode == 1 and "Connection refused" in done.stderr and "--wait" in done.stderr
        assert time.monotonic() - begun < 20  # it would try for 30 s

    scenario(tmp_path, told)


@pytest.mark.parametrize("cut", range(7))
def test_a_join_that_was_cut_off_is_repeated_with_the_same_token(tmp_path, cut):
    """A power cut at the n-th file: join.key, the mark, ca.crt, node.key.next, node.crt, kubeedge.yaml, node.json."""

    async def told(cloud):
        token, root = await cloud.token("edge1"), tmp_path / "root"
        code = (
            "import os, sys\nfrom kubeedge import faults\nn = [0]\n"
            "def cut():\n    n[0] += 1\n    n[0] == int(sys.argv[1]) and os._exit(137)\n"
            "faults.arm('pki.files.before_rename', cut)\nfrom kubeedge.cli.main import main\nsys.exit(main(sys.argv[2:]))\n"
        )
        arguments = ["join", "--token", str(token), "--name", "edge1", "--root-dir", str(root), "--no-start"]
        command = [sys.executable, "-c", code, str(cut + 1), *arguments, f"127.0.0.1:{cloud.port}"]
        first = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=30)
        assert first.returncode == 137, first.stderr
        done = await join_as_process(cloud, token, root)
        assert done.returncode == 0, done.stderr
        assert files(root) == JOINED
        assert trust.fits(root / "etc/kubeedge/pki/node.crt", root / "etc/kubeedge/pki/node.key")

    scenario(tmp_path, told)


def test_a_second_join_needs_force_and_keeps_the_name(tmp_path):
    async def told(cloud):
        root = tmp_path / "root"
        await join_as_process(cloud, await cloud.token("edge1"), root)
        before = (root / "etc/kubeedge/pki/node.crt").read_bytes()
        done = await join_as_process(cloud, await cloud.token("edge1"), root)
        assert done.returncode == 1 and "has joined already" in done.stderr and "kubeedge reset" in done.stderr
        done = await join_as_process(cloud, await cloud.token("edge9"), root, "--force", name="edge9")
        assert done.returncode == 1 and "belongs to node edge1, not to edge9" in done.stderr
        assert (root / "etc/kubeedge/pki/node.crt").read_bytes() == before
        done = await join_as_process(cloud, await cloud.token("edge1", replace=True), root, "--force")
        assert done.returncode == 0, done.stderr
        assert (root / "etc/kubeedge/pki/node.crt").read_bytes() != before
        assert files(root) == JOINED

    scenario(tmp_path, told)


def test_a_clock_off_by_a_year_is_said_so(tmp_path):
    async def told(cloud):
        cloud.off = 365 * DAY
        done = await join_as_process(cloud, await cloud.token(), tmp_path / "root")
        assert done.returncode == 1
        assert "the clock of this machine is off by 365 days (behind the cloud's): set it" in done.stderr

    scenario(tmp_path, told)


def test_reset_undoes_join_and_can_be_repeated(tmp_path):
    async def told(cloud):
        root = tmp_path / "root"
        await join_as_process(cloud, await cloud.token("edge1"), root)
        state, runs = root / "var/lib/kubeedge/edge", root / "run/kubeedge"
        (state / "edge.db").write_bytes(b"x")
        (state / "link").symlink_to(tmp_path)
        (runs / "exits").mkdir(parents=True)
        (runs / "cloud.sock").touch()
        (root / "etc/kubeedge/cloud.yaml").touch()
        done = await asyncio.to_thread(run, "reset", "--force", "--root-dir", str(root))
        assert done.returncode == 0, done.stderr
        assert f"removed {state}" in done.stdout
        assert "next: node edge1 is still in the cluster" in done.stderr
        assert files(root) == {"etc/kubeedge/cloud.yaml", "run/kubeedge/cloud.sock"}, "the cloud's are not ours"
        again = await asyncio.to_thread(run, "reset", "--force", "--root-dir", str(root))
        assert (again.returncode, again.stdout) == (0, "there was nothing to remove\n")
        done = await join_as_process(cloud, await cloud.token("edge1", replace=True), root)
        assert done.returncode == 0, done.stderr

    scenario(tmp_path, told)


def test_reset_can_keep_what_a_node_goes_on_with(tmp_path):
    async def told(cloud):
        root = tmp_path / "root"
        await join_as_process(cloud, await cloud.token("edge1"), root)
        before = files(root)
        (root / "run/kubeedge/exits").mkdir(parents=True)
        done = await asyncio.to_thread(run, "reset", "--keep-state", "--force", "--root-dir", str(root))
        assert done.returncode == 0, done.stderr
        assert files(root) == before and not (root / "run/kubeedge/exits").exists()

    scenario(tmp_path, told)


def test_reset_never_removes_a_directory_that_join_did_not_make(tmp_path):
    precious = tmp_path / "home"
    precious.mkdir()
    (precious / "thesis").write_text("years of work")
    root = tmp_path / "root"
    paths = edge.Paths(
        state=precious, run=root / "run/kubeedge", pki=root / "etc/kubeedge/pki", logs=root / "var/log/pods"
    )
    paths.pki.mkdir(parents=True)
    (root / "etc/kubeedge/kubeedge.yaml").write_text(edge.default_yaml(edge.EdgeConfig(paths=paths)))
    done = run("reset", "--force", "--root-dir", str(root))
    assert done.returncode == 1 and "was not made by `kubeedge join`" in done.stderr
    assert (precious / "thesis").exists()


def test_reset_unmounts_before_it_removes(tmp_path):
    root, data = tmp_path / "root", tmp_path / "data"
    state = root / "var/lib/kubeedge/edge"
    volume = state / "volumes" / "a b"
    for directory in (data, volume):
        directory.mkdir(parents=True)
    (data / "thesis").write_text("years of work")
    (state / join.STATE_MARK).touch()
    subprocess.run(["mount", "--bind", str(data), str(volume)], check=True)
    try:
        done = run("reset", "--force", "--root-dir", str(root))
        assert done.returncode == 0, done.stderr
        assert (data / "thesis").exists() and not state.exists()
    finally:
        subprocess.run(["umount", "-q", str(volume)], check=False, capture_output=True)


def test_reset_asks_a_running_agent_to_end_its_pods(tmp_path):
    from kubeedge.kit.http1 import Request, Response, json_response, start_unix_server

    asked = []

    async def told():
        root = tmp_path / "root"
        state = root / "var/lib/kubeedge/edge"
        state.mkdir(parents=True)
        (state / join.STATE_MARK).touch()
        stopped = asyncio.Event()

        async def handle(request: Request) -> Response:
            asked.append((request.method, request.path, json.loads(await request.read(1000) or b"null")))
            if request.path == "/v1/stop":
                asyncio.get_running_loop().call_later(0.3, stopped.set)
            return json_response(200, {})

        socket = root / "run/kubeedge/edge.sock"
        server = await start_unix_server(socket, handle)
        resetting = asyncio.create_task(asyncio.to_thread(run, "reset", "--force", "--root-dir", str(root)))
        await stopped.wait()
        assert state.exists(), "not before the agent has ended"
        server.close()
        await server.wait_closed()
        socket.unlink(missing_ok=True)  # from Python 3.13 on the server removes it
        assert (await resetting).returncode == 0
        assert not state.exists()

    asyncio.run(told())
    assert ("POST", "/v1/stop", {"pods": True}) in asked


def test_join_without_root_says_so(monkeypatch, tmp_path):
    from kubeedge.cli import preflight

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(CommandError, match="an agent needs root"):
        preflight.check(tmp_path)


def test_preflight_names_what_is_missing_and_how_to_get_it(monkeypatch, tmp_path):
    from kubeedge.cli import preflight

    monkeypatch.setattr(preflight.shutil, "which", lambda _: None)
    warnings = "\n".join(preflight.check(tmp_path / "not" / "there"))
    for package in ("conmon", "crun", "nftables"):
        assert f"apt-get install {package}" in warnings


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("10.0.0.1", ("10.0.0.1", 10002)),
        ("cloud.example", ("cloud.example", 10002)),
        ("cloud.example:1", ("cloud.example", 1)),
        ("2001:db8::1", ("2001:db8::1", 10002)),
        ("[2001:db8::1]", ("2001:db8::1", 10002)),
        ("[2001:db8::1]:7", ("2001:db8::1", 7)),
    ],
)
def test_the_cloud_may_be_named_in_many_ways(text, pair):
    assert join.endpoint(text) == pair


@pytest.mark.parametrize("text", ["", "http://x", "x:", "x:y", "x:0", "a b"])
def test_what_is_no_cloud(text):
    with pytest.raises(UsageError):
        join.endpoint(text)


def test_no_agent_is_not_a_running_one(tmp_path):
    assert not reset._listens(tmp_path / "none.sock")
    (tmp_path / "left.sock").touch()
    assert not reset._listens(tmp_path / "left.sock")


def test_labels_and_taints_of_the_file_and_of_the_options_are_told_with_the_join(tmp_path):
    """An image may bring kubeedge.yaml with it."""
    config = tmp_path / "etc/kubeedge/kubeedge.yaml"
    config.parent.mkdir(parents=True)
    config.write_text("node: {labels: [rack=7, hall=a], taints: ['new:NoSchedule']}\n")

    async def told(cloud):
        token = await cloud.token("edge1")
        bad = await join_as_process(cloud, token, tmp_path, "--label", "node-role.kubernetes.io/control-plane=")
        assert bad.returncode == 2 and "not a node's to set" in bad.stderr
        more = ("-l", "hall=b,zone=c", "--label", "gpu=", "--taint", "dedicated=video:NoExecute")
        done = await join_as_process(cloud, token, tmp_path, *more)
        assert done.returncode == 0, done.stderr
        said = cloud.registry.registrations["default", "edge1"]
        assert said.labels == {"rack": "7", "hall": "b", "zone": "c", "gpu": ""}
        assert [(t["key"], t["effect"]) for t in said.taints] == [("new", "NoSchedule"), ("dedicated", "NoExecute")]

    scenario(tmp_path, told)
