"""The command as people call it: a process, its output, its exit status."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from kubeedge import __version__
from kubeedge.api.names import NodeName, TenantId
from kubeedge.cli import main as cli
from kubeedge.cli import service, show, token
from kubeedge.cli.errors import UsageError
from kubeedge.cli.run import _with_relay
from kubeedge.cli.sync import _text as sync_text
from kubeedge.config.cloud import CloudConfig
from kubeedge.control.module import ControlServer
from kubeedge.kit.http1 import Request, Response, json_response, start_unix_server
from kubeedge_cloud.admin.tenants import TenantRoutes
from tests.unit.bootstrap.cloud import Cloud
from tests.unit.bootstrap.test_join import scenario

COMMAND = [sys.executable, "-m", "kubeedge"]


def kubeedge(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, input=stdin, timeout=30)


async def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(kubeedge, *arguments, stdin=stdin)


class Tenants:
    def __init__(self) -> None:
        self.all = [TenantId("default")]
        self.quota = 50_000, 64 << 20

    async def names(self) -> list[TenantId]:
        return self.all

    async def ensure(self, tenant: TenantId, cluster: str | None = None) -> None:
        if tenant not in self.all:
            self.all.append(tenant)

    async def remove_node(self, tenant: TenantId, node: NodeName) -> bool:
        return node == "edge1"

    async def show(self, tenant: TenantId) -> dict[str, Any]:
        return {
            "name": tenant,
            "objects": {"used": 7, "limit": self.quota[0]},
            "bytes": {"used": 9, "limit": self.quota[1]},
        }

    async def allow_storage(self, tenant: TenantId, objects: int, size: int) -> None:
        self.quota = objects or 50_000, size or 64 << 20


class AdminSocket:
    """A cloud with its administrator's socket: `async with AdminSocket(cloud, path)`."""

    def __init__(self, cloud: Cloud, path: Path) -> None:
        routes = TenantRoutes(Tenants(), cloud.tokens, cloud.clock)
        self._control = ControlServer(path, routes.answer, str)
        self.path = path

    async def __aenter__(self) -> str:
        self._server = await start_unix_server(self.path, self._control.handle)
        return str(self.path)

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()


def test_help_is_quick_and_imports_next_to_nothing():
    times = []
    for _ in range(3):
        began = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert kubeedge("--help").returncode == 0
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime)  # other load counts little
    assert statistics.median(times) < 0.3
    code = "import sys; from kubeedge.cli import main; main.parser().format_help(); print(sorted(sys.modules))"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for heavy in ("asyncio", "ssl", "json", "yaml", "cryptography", "http.client", "kubeedge.errors"):
        assert f"'{heavy}'" not in modules


def test_the_agent_does_not_keep_what_only_commands_need():
    code = (
        "import sys, kubeedge.cli.main, kubeedge.cli.run, kubeedge.config.edge, kubeedge.pki.module\n"
        "print({'http.client', 'email', 'yaml', 'cryptography', 'difflib', '_strptime'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_every_command_and_verb_has_help():
    commands = (
        "cloud edge join reset token tenant gettoken status publish image ping links routes router node version".split()
    )
    listed = kubeedge("--help").stdout
    for command in commands:
        assert command in listed
        with pytest.raises(SystemExit) as end:
            cli.parser().parse_args([command, "--help"])
        assert end.value.code == 0


def test_keadm_offers_its_own_verbs_and_options(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/keadm", "version"])
    assert cli.main(["version"]) == 0
    with pytest.raises(SystemExit) as end:
        cli.main(["publish", "x", "1"])
    assert end.value.code == 2
    options = cli.parser("keadm").parse_args(
        ["join", "--cloudcore-ipport", "10.0.0.1:10002", "--edgenode-name", "edge1", "--token", "x"]
    )
    assert (options.cloudcore_ipport, options.name) == ("10.0.0.1:10002", "edge1")


@pytest.mark.parametrize(
    "arguments",
    [(), ("nonsense",), ("join",), ("join", "host"), ("token",), ("token", "revoke"), ("image", "import"), ("--vers",)],
)
def test_wrong_usage_ends_with_2(arguments):
    done = kubeedge(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: kubeedge" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("join", "--token", "short", "10.0.0.1"), "a token looks like"),
        (("join", "--token", "short"), "where is the cloud?"),
        (("join", "--token", "short", "10.0.0.1:0"), "'10.0.0.1:0' is not HOST or HOST:PORT"),
        (("join", "--token-file", "/nonexistent", "10.0.0.1"), "cannot read the token"),
        (("token", "create", "--tenant", "../x"), "'../x' is not an RFC 1123 label"),
        (("token", "create", "--ttl", "1 week"), "'1 week' is not a duration"),
        (("publish", "cam", "http"), "'http' is not PORT or HOST:PORT"),
        (("publish", "cam", "70000"), "'70000' is not PORT or HOST:PORT"),
        (("publish",), "which service?"),
        (("publish", "cam", "--list"), "--list takes no name"),
        (("publish", "Cam", "80"), "'Cam' is not an RFC 1123 label"),
        (("image", "import", "/nonexistent.tar"), "/nonexistent.tar is not a file"),
        (("reset",), "confirm with --force"),
    ],
)
def test_wrong_arguments_end_with_2_and_one_clear_line(arguments, words):
    done = kubeedge(*arguments)
    assert done.returncode == 2
    assert words in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", "--socket"),
        ("token", "list", "--socket"),
        ("tenant", "list", "--socket"),
        ("image", "list", "--socket"),
    ],
)
def test_no_process_is_said_so(arguments, tmp_path):
    done = kubeedge(*arguments, str(tmp_path / "no.sock"))
    assert done.returncode == 1
    assert "does not run here" in done.stderr and "Traceback" not in done.stderr


def test_version_in_both_forms():
    assert kubeedge("version").stdout.startswith("kubeedge 0.")
    assert json.loads(kubeedge("version", "-o", "json").stdout)["python"].startswith("3.")


def test_the_default_configuration_is_printed_for_both_sides(tmp_path):
    for command in ("edge", "cloud"):
        text = kubeedge(command, "--defaultconfig").stdout
        (tmp_path / "c.yaml").write_text(text.replace("enable:", "enabel:", 1))
        done = kubeedge(command, "--config", str(tmp_path / "c.yaml"))
        assert done.returncode == 1
        assert "enabel: unknown key; did you mean " in done.stderr and "Traceback" not in done.stderr


def test_an_agent_that_has_not_joined_is_told_to(tmp_path):
    done = kubeedge("edge", "--root-dir", str(tmp_path))
    assert (done.returncode, "run `kubeedge join` first" in done.stderr) == (1, True)


def test_tokens_are_made_listed_and_revoked_through_the_socket(tmp_path):
    async def told(cloud):
        async with AdminSocket(cloud, tmp_path / "s") as socket:
            made = (await run("token", "create", "--node", "edge1", "--ttl", "30m", "--socket", socket)).stdout.strip()
            id = made.split(".")[1]
            listed = await run("token", "list", "--socket", socket)
            assert listed.stdout.splitlines()[1].split()[:3] == [id, "edge1", "valid"]
            assert made.split(".")[2] not in listed.stdout
            assert (await run("token", "revoke", id, "--socket", socket)).returncode == 0
            [entry] = json.loads((await run("token", "list", "-o", "json", "--socket", socket)).stdout)["tokens"]
            assert (entry["id"], entry["state"]) == (id, "revoked")
            again = json.loads((await run("gettoken", "-o", "json", "--socket", socket)).stdout)
            assert again["expires"] == pytest.approx(time.time() + 86400, abs=60)

    scenario(tmp_path, told)


@pytest.mark.parametrize(
    ("arguments", "words", "advice"),
    [
        (("token", "create", "--tenant", "acme"), "no tenant acme", "kubeedge tenant create acme"),
        (("token", "create", "--node", "Edge 1"), "'Edge 1' is not an RFC 1123 label", ""),
        (("token", "create", "--ttl", "0s"), "ttl: 0 seconds", ""),
        (("token", "create", "--ttl", "999999999d"), "a token lives for", ""),
        (("token", "revoke", "zzzzzz"), "no token zzzzzz of tenant default", ""),
        (("token", "revoke", "../../x"), "", ""),
        (("tenant", "create", "Not A Label"), "is not an RFC 1123 label", ""),
        (("node", "remove", "edge9"), "tenant default has no node edge9", ""),
        (("node", "remove", "../x"), "", ""),
    ],
)
def test_what_the_cloud_refuses_is_shown_in_its_words(tmp_path, arguments, words, advice):
    async def told(cloud):
        async with AdminSocket(cloud, tmp_path / "s") as socket:
            done = await run(*arguments, "--socket", socket)
            assert done.returncode == 1 and done.stdout == ""
            assert words in done.stderr and "Traceback" not in done.stderr
            assert done.stderr.count("next: ") == bool(advice) and advice in done.stderr

    scenario(tmp_path, told)


@pytest.mark.parametrize(
    "body", ["null", "7", "[]", "{", '{"node": 7}', '{"ttl": "x"}', '{"ttl": 1' + "0" * 400 + "}", '{"replace": 1}']
)
def test_the_admin_routes_refuse_garbage(tmp_path, body):
    async def told(cloud):
        async with AdminSocket(cloud, tmp_path / "s") as socket:
            reader, writer = await asyncio.open_unix_connection(socket)
            head = f"POST /v1/tenants/default/tokens HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
            writer.write((head + body).encode())
            assert (await reader.readline()).split()[1] == b"400"
            writer.close()
            await writer.wait_closed()
            assert await cloud.tokens.list(TenantId("default")) == []

    scenario(tmp_path, told)


def test_tenants_are_made_and_listed(tmp_path):
    async def told(cloud):
        async with AdminSocket(cloud, tmp_path / "s") as socket:
            assert (await run("tenant", "create", "acme", "--socket", socket)).stdout == "tenant acme exists\n"
            assert (await run("tenant", "list", "--socket", socket)).stdout == "acme\ndefault\n"
            shown = (await run("tenant", "show", "acme", "--socket", socket)).stdout
            assert shown == "tenant   acme\ncluster  embedded\nobjects  7 of 50000\nbytes    9 of 67108864\n"
            shown = (await run("tenant", "quota", "acme", "--objects", "10", "--mib", "1", "--socket", socket)).stdout
            assert shown == "tenant   acme\ncluster  embedded\nobjects  7 of 10\nbytes    9 of 1048576\n"
            assert "no tenant none" in (await run("tenant", "show", "none", "--socket", socket)).stderr
            wrong = await run("tenant", "quota", "acme", "--mib", "-1", "--socket", socket)
            assert wrong.returncode and "a number of 0 or more" in wrong.stderr

    scenario(tmp_path, told)


class Agent:
    """The routes of an agent's socket, as far as the command uses them."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, object]] = []

    async def handle(self, request: Request) -> Response:
        body = json.loads(await request.read(10_000) or b"null")
        self.asked.append((request.method, request.path, body))
        match request.path:
            case "/v1/status":
                status = {"node": "edge1", "channel": {"attached": True, "rtt": 0.02}, "pods": [], "modules": [
                    {"name": "hub", "state": "ready", "restarts": 0, "lastError": ""},
                    {"name": "kubebus", "state": "backing off", "restarts": 3, "lastError": "no route"}]}  # fmt: skip
                return json_response(200, status)
            case "/v1/webservices" if request.method == "GET":
                cam = {
                    "name": "cam",
                    "by": "Service",
                    "target": "pods default/app=cam port 80",
                    "access": "public",
                    "path": "/t/n/cam/",
                }
                return json_response(200, {"services": [cam]})
            case "/v1/webservices":
                return json_response(200, {"path": "/default/edge1/cam/"})
            case "/v1/webservices/cam/tokens":
                return json_response(200, {"token": "s3cret"})
            case "/v1/images":
                return json_response(200, {"images": ["demo:1"]})
            case "/v1/images/import":
                return json_response(400, {"error": "not an \033[31marchive\n", "next": "make one with skopeo"})
        return json_response(200, {})


def test_the_tools_of_the_edge_speak_to_its_socket(tmp_path):
    async def told():
        agent = Agent()
        path = str(tmp_path / "edge.sock")
        async with await start_unix_server(Path(path), agent.handle):
            status = (await run("status", "--socket", path)).stdout
            assert "node: edge1" in status and "  attached: True" in status
            assert "  kubebus   backing off   3          no route" in status
            as_json = json.loads((await run("status", "-o", "json", "--socket", path)).stdout)
            assert as_json["modules"][1]["restarts"] == 3
            done = await run("publish", "cam", "8080", "--socket", path)
            assert done.stdout == "published 127.0.0.1:8080 as /default/edge1/cam/\n"
            assert agent.asked[-1] == ("POST", "/v1/webservices", {"name": "cam", "target": "127.0.0.1:8080"})
            listed = (await run("publish", "--list", "--socket", path)).stdout.splitlines()
            assert listed[0].split() == ["NAME", "TARGET", "ACCESS", "BY", "PATH"]
            assert listed[1].split() == [
                "cam",
                "pods",
                "default/app=cam",
                "port",
                "80",
                "public",
                "Service",
                "/t/n/cam/",
            ]
            done = await run("publish", "cam", "--access", "token", "--socket", path)
            assert agent.asked[-1] == ("POST", "/v1/webservices", {"name": "cam", "access": "token"})
            done = await run("publish", "cam", "--new-token", "--socket", path)
            assert agent.asked[-1][:2] == ("POST", "/v1/webservices/cam/tokens") and done.stdout == "s3cret\n"
            await run("publish", "cam", "--revoke-tokens", "--socket", path)
            assert agent.asked[-1][:2] == ("DELETE", "/v1/webservices/cam/tokens")
            done = await run("publish", "cam", "--access", "tenant", "--new-token", "--socket", path)
            assert "change the service first" in done.stderr and agent.asked[-1][0] == "DELETE"
            await run("publish", "cam", "--remove", "--socket", path)
            assert agent.asked[-1][:2] == ("DELETE", "/v1/webservices/cam")
            assert (await run("image", "list", "--socket", path)).stdout == "demo:1\n"
            (tmp_path / "a.tar").write_bytes(b"")
            done = await run("image", "import", str(tmp_path / "a.tar"), "demo:2", "--socket", path)
            assert agent.asked[-1][2] == {"path": str(tmp_path / "a.tar"), "names": ["demo:2"]}
            assert done.stderr == "kubeedge image: not an  [31marchive\nnext: make one with skopeo\n"

    asyncio.run(told())


def test_the_state_of_sync_is_said_in_a_line_for_each_direction():
    moved = {"revision": 7, "batches": 1, "changes": 2, "bytes": 1500, "snapshots": 0}
    sending, following = moved | {"head": 9, "lag": 2, "keys": 3}, moved | {"keys": 4}
    here = {
        "attached": True,
        "store": "ab",
        "down": following,
        "up": sending | {"queue": 0},
        "wire": {"bytesIn": 1, "bytesOut": 2500},
    }
    lines = sync_text(here).splitlines()
    assert lines[:2] == ["attached: True", "store: ab"] and lines[-1] == "on the channel: 1 in, 2.5 kB out"
    assert lines[4].split() == "cloud to node follows 7 4 1 2 1.5 kB 0".split()
    assert lines[5].split() == "node to cloud in sync 7 3 1 2 1.5 kB 0".split()
    there = {
        "store": "cd",
        "nodes": [
            {"tenant": "t", "node": "n", "attached": False, "down": {"head": 9, "keys": 3}, "up": {"durable": "[]"}}
        ],
    }
    lines = sync_text(there).splitlines()  # all that a cloud knows of a node that is away
    assert lines[3].split() == "t/n cloud to node away - 3 - - - -".split()
    assert lines[4].split() == "t/n node to cloud away - - - - - -".split()
    refused = moved | {"refused": 4, "refusal": "it takes at most 5 keys"}
    there["nodes"][0] |= {"attached": True, "down": sending | {"queue": 2}, "up": refused}
    assert "4 keys refused" in sync_text(there).splitlines()[4]
    assert sync_text(there).splitlines()[-1] == "refused of t/n: it takes at most 5 keys"
    assert "2 keys behind" in sync_text(there).splitlines()[3]
    there["nodes"][0]["up"] = moved | {"throttledSeconds": 12.5}
    assert sync_text(there).splitlines()[-1] == "t/n changes more than it may and was throttled: 12.5 s in all"
    assert sync_text({"store": "cd", "nodes": []}).splitlines()[-1] == "no node has attached yet"


def test_units_are_shown_as_people_read_them():
    shown = show.tree(
        {
            "rtt": 0.0123,
            "bytesIn": 2048,
            "seconds": 1.5,
            "rows": [{"queuedBytes": 5, "drops": {"full": 2}, "none": None}],
        }
    )
    assert shown.splitlines()[:3] == ["rtt: 12.3 ms", "bytesIn: 2.05 kB", "seconds: 1.5"]
    assert shown.splitlines()[-2].split() == "QUEUED BYTES DROPS NONE".split() and shown.split()[-4:] == [
        "5",
        "full",
        "2",
        "-",
    ]


def test_an_answer_that_is_no_json_is_said_so(tmp_path):
    async def handle(request: Request) -> Response:
        return Response(200, [], b"null")

    async def told():
        async with await start_unix_server(tmp_path / "s", handle):
            done = await run("status", "--socket", str(tmp_path / "s"))
            assert (done.returncode, "no JSON object" in done.stderr) == (1, True)

    asyncio.run(told())


def test_a_reader_that_goes_away_is_no_traceback():
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*COMMAND, "edge", "--defaultconfig"], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize(("text", "value"), [("30m", 1800.0), ("24h", 86400.0), ("7d", 604800.0), ("1s", 1.0)])
def test_durations(text, value):
    assert token.seconds(text) == value


@pytest.mark.parametrize("text", ["", "h", "1", "-1h", "1w", "1.5h", "1h ", "9" * 10 + "h"])
def test_what_is_no_duration(text):
    with pytest.raises(UsageError):
        token.seconds(text)


def test_tables_line_up():
    assert show.table(("A", "LONG"), (("value", "x"), ("y", "z"))) == "A       LONG\nvalue   x\ny       z"


def test_the_service_unit_quotes_what_systemd_would_read_otherwise():
    text = service.unit_text(
        service.EDGE, ["/usr/bin/python3", "-m", "kubeedge", "edge", "--root-dir", "/srv/100% $HOME"]
    )
    assert 'ExecStart=/usr/bin/python3 -m kubeedge edge --root-dir "/srv/100%% $$HOME"\n' in text
    assert "Delegate=yes\n" in text and "KillMode=process\n" in text


@pytest.mark.parametrize(
    ("given", "address"),
    [("10.0.0.1:10010", "10.0.0.1:10010"), ("2001:db8::1:10010", "[2001:db8::1]:10010"), ("[::1]:1", "[::1]:1")],
)
def test_a_pod_says_where_its_relay_is(given: str, address: str) -> None:
    """One configuration for all replicas, and an address for each; a pod's IPv6 address comes without brackets."""
    assert _with_relay(CloudConfig(), given).relays.addresses == (address,)


@pytest.mark.parametrize("given", ["10.0.0.1", "10.0.0.1:x", ":1", "10.0.0.1:70000"])
def test_a_relay_address_has_a_form(given: str) -> None:
    with pytest.raises(UsageError, match="--relay-address"):
        _with_relay(CloudConfig(), given)


@pytest.mark.parametrize(("form", "text"), [("short", __version__), ("yaml", f'version: "{__version__}"')])
def test_the_version_in_keadms_forms(form: str, text: str) -> None:
    assert kubeedge("version", "-o", form).stdout.splitlines()[0] == text
