"""A machine becomes a node, runs a pod, and becomes an ordinary machine again: real cloud, real agent, real containers."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubeedge.appengine.runtime import cgroups
from kubeedge.pki import der, trust
from tests.kit import images
from tests.kit.layers import Image, entry
from tests.kit.layers import directory as directory_entry
from tests.kit.layers import layer as image_layer
from tests.kit.topology import Host, Topology, until

pytestmark = pytest.mark.root

KUBECTL = str(Path(__file__).parents[2] / "build/debian/usr/bin/kubectl")
KUBEEDGE = [sys.executable, "-m", "kubeedge"]
PREFIX = f"kbtest{os.getpid()}"
POD = {
    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "sleeper"},
    "spec": {"nodeName": "edge1", "terminationGracePeriodSeconds": 0,
             "containers": [{"name": "c", "image": "demo:1", "command": ["sleep", "1000"]}]},
}  # fmt: skip


class Site:
    """One cloud and one machine, on a wire."""

    def __init__(
        self, net: Topology, directory: Path, listeners: str = "{}", *, env: dict[str, str] | None = None
    ) -> None:
        self.directory = directory
        self.root = directory / "r"
        self.agent_env: dict[str, str] = {}
        self.eviction = "[none]"  # whatever else fills the disk or the memory of this machine
        self.cloud, self.machine = net.host("cloud"), net.host("machine")
        net.wire(self.cloud, "203.0.113.1/24", self.machine, "203.0.113.7/24")
        self.socket = str(directory / "run/cloud.sock")
        config = directory / "cloud.yaml"
        config.write_text(
            f"kind: CloudCore\nadvertise: [203.0.113.1]\ntun: {{enable: false}}\nlisteners: {listeners}\n"
            f"paths: {{state: {directory}/state, run: {directory}/run}}\n"
        )
        self._cloud_env = env
        self._start_cloud()

    def _start_cloud(self) -> None:
        config, log = self.directory / "cloud.yaml", self.directory / "cloud.log"
        self.process = self.cloud.spawn(*KUBEEDGE, "cloud", "--config", str(config), log=log, env=self._cloud_env)
        until(lambda: Path(self.socket).exists(), what="the cloud's socket")

    def restart_cloud(self) -> None:
        self.cloud.signal(self.process, signal.SIGTERM)
        self.process.wait(90)
        self._start_cloud()

    def admin(self, *arguments: str) -> str:
        return self.cloud.run(*KUBEEDGE, *arguments, "--socket", self.socket)

    def kubectl(self, *arguments: str, input: str | None = None) -> str:
        config = str(self.directory / "state/kubeconfig-default")
        return self.cloud.run("env", f"HOME={self.directory}", KUBECTL, "--kubeconfig", config, *arguments, input=input)

    def join(self, *more: str) -> str:
        token = self.admin("token", "create", "--node", "edge1", "--replace")
        arguments = ["--token-file", "-", "--name", "edge1", "--root-dir", str(self.root), "--no-start", "203.0.113.1"]
        return self.machine.run(*KUBEEDGE, "join", *arguments, *more, input=token)

    def start_agent(self) -> None:
        config = self.root / "etc/kubeedge/kubeedge.yaml"
        text = config.read_text().replace("cgroupPrefix: kubeedge", f"cgroupPrefix: {PREFIX}")
        text = text.replace("evictionHard: []", f"evictionHard: {self.eviction}")
        assert f"evictionHard: {self.eviction}" in text
        config.write_text(text)
        self.agent = self.machine.spawn(
            *KUBEEDGE, "edge", "--root-dir", str(self.root), log=self.directory / "edge.log", env=self.agent_env
        )
        until(lambda: " Ready " in self.kubectl("get", "nodes"), what="Ready")

    def until_modules_are_ready(self) -> None:
        """The Node is Ready when it can run pods: other modules may begin later."""
        until(lambda: {m["state"] for m in self.status()["modules"]} == {"ready"}, what="all modules")

    def status(self) -> dict[str, Any]:
        socket = str(self.root / "run/kubeedge/edge.sock")
        return json.loads(self.machine.run(*KUBEEDGE, "status", "-o", "json", "--socket", socket))


@pytest.fixture
def site(request: pytest.FixtureRequest, topology: Topology) -> Iterator[Site]:
    directory = Path(tempfile.mkdtemp(prefix=PREFIX))  # not tmp_path: the path of a socket must be short
    try:
        yield Site(topology, directory, getattr(request, "param", "{}"))
    finally:
        topology.__exit__()
        cgroups.kill_and_remove(PREFIX)
        shutil.rmtree(directory, ignore_errors=True)


def mounts_of(host: Host, below: Path) -> int:
    return host.run("cat", "/proc/self/mountinfo").count(str(below))


@pytest.mark.parametrize("agent", ["running", "killed"])
def test_a_machine_joins_runs_a_pod_and_is_reset_to_what_it_was(site: Site, agent: str) -> None:
    forwarding = "/proc/sys/net/ipv4/ip_forward"
    site.machine.run("tee", forwarding, input="0")
    assert "node edge1 of tenant default joined" in site.join()
    site.start_agent()
    archive = images.build(site.directory / "demo.tar", "demo:1")
    socket = str(site.root / "run/kubeedge/edge.sock")
    site.machine.run(*KUBEEDGE, "image", "import", str(archive), "demo:1", "--socket", socket)
    site.kubectl("apply", "-f", "-", input=json.dumps(POD))
    until(lambda: "Running" in site.kubectl("get", "pod", "sleeper"), what="the pod runs")
    assert mounts_of(site.machine, site.root) > 0 and cgroups.processes(PREFIX)
    site.until_modules_are_ready()
    assert site.machine.run("cat", forwarding) == "1\n"

    if agent == "killed":
        site.machine.signal(site.agent, signal.SIGKILL)
        site.agent.wait(90)
    out = site.machine.run(*KUBEEDGE, "reset", "--force", "--root-dir", str(site.root))
    assert "removed " in out
    assert site.agent.wait(90) in (0, -signal.SIGKILL, 128 + signal.SIGKILL)
    assert cgroups.processes(PREFIX) == [] and list(cgroups.groups(PREFIX)) == []
    assert mounts_of(site.machine, site.root) == 0
    assert not (site.root / "var/lib/kubelet").exists()
    assert "cni0" not in site.machine.ip("-br", "link")
    assert site.machine.run("nft", "list", "tables") == ""
    assert site.machine.run("cat", forwarding) == "0\n"
    assert [p for p in site.root.rglob("*") if not p.is_dir() or p.name in ("kubeedge", "pods")] == []
    again = site.machine.run(*KUBEEDGE, "reset", "--force", "--root-dir", str(site.root))
    assert again == "there was nothing to remove\n"

    site.join()
    site.start_agent()


def test_a_renewed_certificate_carries_channel_and_links(site: Site) -> None:
    site.join()
    site.start_agent()
    pki = site.root / "etc/kubeedge/pki"
    before = (pki / "node.crt").read_bytes()
    site.machine.run(sys.executable, "-m", "kubeedge.pki.renew", str(pki), "203.0.113.1:10002")
    after = (pki / "node.crt").read_bytes()
    assert before != after and trust.fits(pki / "node.crt", pki / "node.key")
    assert der.validity(after).not_after >= der.validity(before).not_after
    site.machine.signal(site.agent, signal.SIGTERM)
    assert site.agent.wait(90) == 0
    until(lambda: " Ready " not in site.kubectl("get", "nodes"), what="NotReady")
    site.start_agent()
    until(lambda: site.status()["link"]["up"], what="the link")


def test_a_node_that_is_away_is_still_shown(site: Site) -> None:
    site.join()
    assert re.search(r"default +edge1 +away +never", site.admin("node", "list"))
    site.start_agent()

    def shown() -> dict[str, Any]:
        [node] = json.loads(site.admin("node", "list", "-o", "json"))["nodes"]
        return dict(node)

    until(lambda: shown()["version"] != "" and shown()["lag"] == 0, what="what the node says of itself")
    node = shown()
    assert node["attached"] and node["address"] == "203.0.113.7" and node["overlay"] == "100.64.0.1"
    until(lambda: "in sync" in site.admin("sync", "status"), what="a moment without a report under way")
    site.machine.stop(site.agent)
    until(lambda: not shown()["attached"], what="away")
    assert shown()["lastSeen"] > 0, "also while its Node is Ready still"
    assert "away" in site.admin("sync", "status") and "edge1" in site.admin("sync", "status")
    [away] = json.loads(site.admin("status", "-o", "json"))["away"]
    assert away["node"] == "edge1" and away["lastSeen"] != "never"
    log = (site.directory / "cloud.log").read_text()
    assert f"export KUBECONFIG={site.directory}/state/kubeconfig-default" in log and "advertise is not set" not in log
    assert "kubeedge join --token TOKEN --name NAME 203.0.113.1:10002" in log


def test_join_may_become_the_agent(site: Site) -> None:
    token = site.directory / "token"
    token.write_text(site.admin("token", "create", "--node", "edge1"))
    agent = site.machine.spawn(
        *KUBEEDGE, "join", "--token-file", str(token), "--name", "edge1", "--root-dir", str(site.root), "--run",
        "203.0.113.1:10002", log=site.directory / "edge.log",
    )  # fmt: skip
    until(lambda: " Ready " in site.kubectl("get", "nodes"), what="Ready")
    site.machine.signal(agent, signal.SIGTERM)
    assert agent.wait(90) == 0


@pytest.mark.parametrize("site", ["{relay: {enable: false, port: 0}}"], indirect=True)
def test_a_cloud_without_a_relay_has_nodes_all_the_same_and_both_sides_say_so(site: Site) -> None:
    site.join()
    assert json.loads((site.root / "etc/kubeedge/node.json").read_text())["relays"] == []
    site.start_agent()
    until(lambda: "this node knows no relay" in site.status()["link"]["lastError"], what="the reason")
    assert not site.status()["link"]["up"]
    site.until_modules_are_ready()
    socket = str(site.root / "run/kubeedge/edge.sock")
    assert "knows no relay" in site.machine.run(*KUBEEDGE, "links", "--socket", socket)
    with pytest.raises(RuntimeError, match="knows no relay"):
        site.machine.run(*KUBEEDGE, "ping", "cloud", "--socket", socket)
    assert "nodes join without KubeBus" in (site.directory / "cloud.log").read_text()
    assert "listeners.relay is off" in site.admin("links")
    with pytest.raises(RuntimeError, match=r"listeners\.relay is off"):
        site.admin("ping", "edge1")


def test_status_of_an_agent_without_kubebus(site: Site) -> None:
    site.join()
    config = site.root / "etc/kubeedge/kubeedge.yaml"
    config.write_text(re.sub(r"(kubebus:\n.*\n    enable:) true", r"\1 false", config.read_text(), count=1))
    site.start_agent()
    assert "link" not in site.status()


def test_a_tun_that_is_deleted_under_the_agent_comes_back(site: Site) -> None:
    site.join()
    site.start_agent()
    until(lambda: site.status()["link"]["up"], what="the link")
    site.machine.ip("link", "delete", "kb0")

    def again() -> bool:
        return "10.244.0.0/16" in site.machine.ip("route") and site.status()["link"]["up"]

    until(again, what="the TUN with its routes, and the link")
    assert "kb0 is gone" in (site.directory / "edge.log").read_text()


def test_a_node_that_is_removed_is_off_the_network_at_once(site: Site) -> None:
    """And what was going on with it ends: the next machine has its number, and would get what was on its way."""
    site.join()
    site.start_agent()
    until(lambda: site.status()["link"]["up"], what="the link")
    archive, socket = images.build(site.directory / "demo.tar", "demo:1"), str(site.root / "run/kubeedge/edge.sock")
    site.machine.run(*KUBEEDGE, "image", "import", str(archive), "demo:1", "--socket", socket)
    site.kubectl("apply", "-f", "-", input=json.dumps(POD))
    site.kubectl("wait", "--for=condition=Ready", "pod/sleeper", "--timeout=80s")
    config = str(site.directory / "state/kubeconfig-default")
    command = [KUBECTL, "--kubeconfig", config, "exec", "sleeper", "--", "sleep", "54321"]
    session = site.cloud.spawn("env", f"HOME={site.directory}", *command, log=site.directory / "exec.log")
    until(lambda: bool(site.machine.running(b"sleep\x0054321")), what="the session")
    assert "node edge1 of tenant default is removed" in site.admin("node", "remove", "edge1")
    assert session.wait(90) != 0
    until(lambda: not site.status()["link"]["up"], what="the end of its links")
    until(lambda: "join it again" in site.status()["link"]["lastError"], what="the reason")
    until(lambda: not site.status()["channel"]["attached"], what="the end of its channel")
    until(lambda: "edge1" not in site.kubectl("get", "nodes"), what="the end of the Node object")


#: setpriv itself keeps capabilities until it starts a program, so it starts env
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env"]


def readable(host: Host, *directories: Path) -> list[str]:
    """Files that an ordinary user of the machine can read, and directories that one can list."""
    paths = host.run(*NOBODY, "find", *map(str, directories), "-readable", check=False).splitlines()
    return [path for path in paths if Path(path).exists()]


def opened_to_all(directory: Path) -> None:
    """As some ways to bring back a backup leave it."""
    for path in (directory, *directory.rglob("*")):
        if not path.is_symlink() and (path.is_dir() or path.is_file()):
            path.chmod(path.stat().st_mode | (0o755 if path.is_dir() else 0o644))


def test_no_ordinary_user_enters_the_state_whatever_it_was_before(topology: Topology) -> None:
    """A directory for images that is made before join makes those above it, for everybody; in layers there are setuid programs."""
    directory = Path(tempfile.mkdtemp(prefix=PREFIX))
    directory.chmod(0o755)
    try:
        ours = [directory / "state", directory / "run"]
        (directory / "state/pki").mkdir(parents=True)
        (directory / "state/kubeconfig-default").write_text("old")
        site = Site(topology, directory)
        state = site.root / "var/lib/kubeedge/edge"
        (state / "images/preload").mkdir(parents=True)
        (site.root / "etc/kubeedge/pki").mkdir(parents=True)
        (site.root / "run/kubeedge").mkdir(parents=True)
        layer = [directory_entry("bin"), entry("bin/su", images.BUSYBOX.read_bytes(), mode=0o4755, uid=0)]
        Image(image_layer(*layer)).archive(state / "images/preload/demo.tar", name="demo.io/demo:1")
        assert readable(site.machine, site.root)
        site.join()
        site.start_agent()
        until(lambda: bool(list(state.glob("images/layers/*/bin/su"))), what="the preloaded image")
        program = str(next(state.glob("images/layers/*/bin/su")))
        ours += [state, site.root / "etc/kubeedge/pki", site.root / "run/kubeedge"]

        def nobody_enters() -> None:
            assert readable(site.machine, *ours) == []
            with pytest.raises(RuntimeError, match="Permission denied"):
                site.machine.run(*NOBODY, program, "id")

        nobody_enters()
        site.machine.signal(site.agent, signal.SIGKILL)
        site.agent.wait(90)
        opened_to_all(site.root)
        assert readable(site.machine, *ours[2:])
        site.start_agent()
        until(lambda: not readable(site.machine, *ours), what="an agent that has closed its state")
        nobody_enters()
        files = [state / "edge.db", state / "edge.db-wal", site.root / "etc/kubeedge/pki/node.key"]
        files += [site.root / "etc/kubeedge/node.json", directory / "state/cloud.db", directory / "state/pki/ca.key"]
        assert {oct(path.stat().st_mode & 0o777) for path in files} == {"0o600"}
    finally:
        topology.__exit__()
        cgroups.kill_and_remove(PREFIX)
        shutil.rmtree(directory, ignore_errors=True)


def test_a_state_that_is_a_link_or_of_another_user_is_refused_with_a_reason(site: Site) -> None:
    site.join()
    state, elsewhere = site.root / "var/lib/kubeedge/edge", site.root / "elsewhere"
    state.rename(elsewhere)
    edge = [*KUBEEDGE, "edge", "--root-dir", str(site.root)]
    state.symlink_to(elsewhere)
    with pytest.raises(RuntimeError, match="is a symbolic link"):
        site.machine.run(*edge)
    state.unlink()
    elsewhere.rename(state)
    os.chown(state, 1000, 1000)
    with pytest.raises(RuntimeError, match="belongs to the user 1000") as caught:
        site.machine.run(*edge)
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("what", ["in use", "another", "missing"])
def test_a_machine_without_a_tun_is_told_in_one_line(site: Site, what: str) -> None:
    site.join()
    log, holder = site.directory / "edge.log", None
    agent = [*KUBEEDGE, "edge", "--root-dir", str(site.root)]
    if what == "in use":
        hold = "from kubeedge.kubebus.l3.tun import open_tun; import time; tun = open_tun('kb0'); time.sleep(1000)"
        holder = site.machine.spawn(sys.executable, "-c", hold)
        until(lambda: "kb0" in site.machine.ip("-br", "link"), what="the other process's TUN")
    elif what == "another":
        site.machine.ip("tuntap", "add", "kb0", "mode", "tap")
    else:
        agent = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /dev/net && exec "$@"', "sh", *agent]
    process = site.machine.spawn(*agent, log=log)
    reasons = {
        "in use": "another process has it", "another": "a device of this name is there", "missing": "/dev/net/tun is missing",
    }  # fmt: skip
    words = f"no TUN kb0: {reasons[what]}"
    until(lambda: words in log.read_text(), what="the reason")
    assert "Traceback" not in log.read_text()
    if holder is not None:
        site.machine.stop(holder)
    if what == "another":
        site.machine.ip("tuntap", "del", "kb0", "mode", "tap")
    if what != "missing":
        until((site.root / "run/kubeedge/edge.sock").exists, what="the agent's socket")
        until(lambda: site.status().get("link", {}).get("up", False), what="the link, once it is free")
    site.machine.stop(process)


def test_a_second_cloud_on_the_same_ports_is_told_in_one_line_each(site: Site) -> None:
    config, log = site.directory / "second.yaml", site.directory / "second.log"
    first = (site.directory / "cloud.yaml").read_text()
    config.write_text(
        first.replace(f"{site.directory}/state", f"{site.directory}/s2").replace(
            f"{site.directory}/run", f"{site.directory}/r2"
        )
    )
    second = site.cloud.spawn(*KUBEEDGE, "cloud", "--config", str(config), log=log)
    assert second.wait(90) == 1
    said = log.read_text()
    for port in (6443, 10000, 10002, 10003, 10010, 8080):
        assert re.search(rf"port {port}: Address already in use$", said, re.MULTILINE), said
    assert "Traceback" not in said and "next: is another cloud running here?" in said


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_the_machine_that_was_the_node_before_stays_out_for_ever(site: Site, how: str) -> None:
    """A stolen card: the old agent runs on, with the old certificate, while another machine joins under the name."""
    site.join()
    site.start_agent()
    until(lambda: site.status()["link"]["up"], what="the link")
    if how == "removed":
        site.admin("node", "remove", "edge1")
        until(lambda: not site.status()["link"]["up"], what="the end of its links")
    other = site.directory / "r2"
    token = site.admin("token", "create", "--node", "edge1", "--replace")
    arguments = ["--token-file", "-", "--name", "edge1", "--root-dir", str(other), "--no-start", "203.0.113.1"]
    assert "node edge1 of tenant default joined" in site.machine.run(*KUBEEDGE, "join", *arguments, input=token)

    def out() -> bool:
        """Neither links nor channel, and both have been refused since: it has tried."""
        status = site.status()
        refused = [status[part]["lastError"] for part in ("link", "channel")]
        return not status["link"]["up"] and not status["channel"]["attached"] and all(words in e for e in refused)

    words = "another machine joined as node edge1"
    until(out, what="refused at both entrances")
    site.cloud.stop(site.process)
    log = site.directory / "cloud.log"
    since = log.stat().st_size  # a refusal may be said once in a while: nothing of the new process may be missed
    site._start_cloud()

    def refused_again() -> bool:
        lines = [line for line in log.read_bytes()[since:].decode().splitlines() if words in line]
        return any("link refused" in line for line in lines) and any("refused address" in line for line in lines)

    until(refused_again, what="refused by a process that has not seen the other machine join")
    until(out, what="the agent has heard it, too")
    pki = site.root / "etc/kubeedge/pki"
    renewal = [sys.executable, "-m", "kubeedge.pki.renew", str(pki), "203.0.113.1:10002"]
    assert "replaced by a later one" in site.machine.run("sh", "-c", 'exec 2>&1; "$@" || true', "sh", *renewal)
    until(lambda: " Ready " not in site.kubectl("get", "nodes"), what="NotReady")

    site.machine.signal(site.agent, signal.SIGTERM)
    assert site.agent.wait(90) == 0
    site.root = other
    site.start_agent()
    until(lambda: site.status()["link"]["up"], what="the link of the right machine")


def test_a_node_whose_links_are_blocked_says_so(site: Site) -> None:
    """The channel works, and KubeBus does not: a firewall that knows one of the two ports."""
    site.join()
    site.start_agent()
    until(lambda: site.status()["link"]["up"], what="the link")
    rules = "table inet block {\n chain out {\n type filter hook output priority 0;\n tcp dport 10010 drop\n }\n}\n"
    site.machine.run("nft", "-f", "-", input=rules)
    # the node notices after two of its own questions, unless one of the relay's comes between: then the relay does, later
    until(lambda: "Ready,KubeBusNotReady" in site.kubectl("get", "nodes"), timeout=120, what="the condition")
    described = site.kubectl("describe", "node", "edge1")
    assert "no link to a relay" in described and re.search(r"Lease:\n +HolderIdentity: +edge1\n", described), described
    until(lambda: not site.status()["link"]["up"], what="the node knows it, too")
    assert site.status()["channel"]["attached"]
    until(lambda: "KubeBusNotReady" in site.kubectl("get", "events"), what="the event")
    answer = site.cloud.run(
        "curl", "-s", "-o", "/dev/null", "-m", "20", "-w", "%{http_code}", "http://203.0.113.1:8080/default/edge1/web/"
    )
    assert answer in ("503", "504"), answer
    site.machine.run("nft", "delete", "table", "inet", "block")
    until(lambda: "Ready,KubeBusNotReady" not in site.kubectl("get", "nodes"), what="the condition is over")
