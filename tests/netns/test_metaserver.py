"""kubectl on a node while the cloud is gone: real agent, real containers, real kubectl; kill -9, cuts, unauthenticated clients; and the merge afterwards."""

from __future__ import annotations

import json
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kubeedge.appengine.runtime import cgroups
from tests.kit import images
from tests.kit.topology import DEFAULT_TIMEOUT, CommandFailed, Topology, until
from tests.netns.test_join import KUBECTL, KUBEEDGE, PREFIX, Site

pytestmark = pytest.mark.root

MANIFEST = """
apiVersion: v1
kind: ConfigMap
metadata: {name: web}
data: {a: "1", b: "1"}
---
apiVersion: v1
kind: Pod
metadata: {name: sleeper, labels: {app: sleeper}}
spec:
  nodeName: edge1
  terminationGracePeriodSeconds: 0
  volumes: [{name: v, configMap: {name: web}}]
  containers:
  - name: c
    image: demo:1
    command: [sh, -c, "echo here; sleep 1000"]
    volumeMounts: [{name: v, mountPath: /web}]
"""


class EdgeSite(Site):
    """A site whose agent serves its own API, with one pod that mounts a ConfigMap."""

    def begin(self) -> None:
        self.join()
        config = self.root / "etc/kubeedge/kubeedge.yaml"
        head, name, tail = config.read_text().partition("metaserver:")
        assert name, head
        config.write_text(head + name + tail.replace("enable: false", "enable: true", 1))
        self.start_agent()
        archive = images.build(self.directory / "demo.tar", "demo:1")
        socket = str(self.root / "run/kubeedge/edge.sock")
        self.machine.run(*KUBEEDGE, "image", "import", str(archive), "demo:1", "--socket", socket)
        self.kubectl("apply", "-f", "-", input=MANIFEST)
        until(
            lambda: "Running" in self.asked("get", "pod", "sleeper").stdout,
            what="the pod runs, the edge says",
        )

    @property
    def kubeconfig(self) -> Path:
        return self.root / "etc/kubeedge/kubeconfig"

    @property
    def agent_socket(self) -> str:
        return str(self.root / "run/kubeedge/edge.sock")

    def start_again(self) -> None:
        """The agent alone, without a cloud to be ready in."""
        self.agent = self.machine.spawn(
            *KUBEEDGE, "edge", "--root-dir", str(self.root), log=self.directory / "edge.log", env=self.agent_env
        )
        until(lambda: self.asked("get", "nodes").returncode == 0, what="the edge's API")

    def cut(self) -> None:
        """The cloud is silent from now on."""
        rules = "table ip wire {\nchain in {\ntype filter hook input priority 0;\nip saddr 203.0.113.1 drop\n}\n}\n"
        self.machine.run("nft", "-f", "-", input=rules)

    def heal(self) -> None:
        self.machine.run("nft", "delete", "table", "ip", "wire")

    def asked(self, *arguments: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
        command = self.machine.command(
            "env", f"HOME={self.directory}", KUBECTL, "--kubeconfig", str(self.kubeconfig), *arguments
        )
        return subprocess.run(
            command, input=input, capture_output=True, text=True, timeout=DEFAULT_TIMEOUT, check=False
        )

    def edge(self, *arguments: str, input: str | None = None) -> str:
        """kubectl on the node, with what the agent wrote for its administrator. Raises CommandFailed."""
        done = self.asked(*arguments, input=input)
        if done.returncode:
            raise CommandFailed(f"kubectl {' '.join(arguments)}: {done.stderr}{done.stdout}")
        return done.stdout

    def fails(self, *arguments: str, input: str | None = None) -> str:
        done = self.asked(*arguments, input=input)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def mounted(self, key: str) -> str:
        """What the pod's volume has now."""
        found = [p for p in self.root.rglob(f"volumes/*/v/{key}") if p.exists()]
        return found[0].read_text() if found else ""

    def pending(self) -> int:
        return int(self.status()["writes"]["pending"])


@pytest.fixture
def site(topology: Topology) -> Iterator[EdgeSite]:
    directory = Path(tempfile.mkdtemp(prefix=PREFIX))  # not tmp_path: the path of a socket must be short
    try:
        site = EdgeSite(topology, directory)
        site.begin()
        yield site
    finally:
        topology.__exit__()
        cgroups.kill_and_remove(PREFIX)
        shutil.rmtree(directory, ignore_errors=True)


def test_an_offline_node_is_operated_with_kubectl_and_the_cloud_agrees_afterwards(site: EdgeSite) -> None:
    web = ["configmap", "web"]
    site.cut()
    until(lambda: not site.status()["channel"]["attached"], timeout=90, what="the node knows that it is alone")
    # reading
    wide = site.edge("get", "pods", "-A", "-o", "wide")
    assert "sleeper" in wide and "Running" in wide and "edge1" in wide
    assert "Ready" in site.edge("get", "nodes")
    assert "default" in site.edge("get", "namespaces")
    assert "sleeper" in site.edge("get", "pods", "-l", "app=sleeper", "--field-selector", "status.phase=Running")
    described = site.edge("describe", "pod", "sleeper")
    assert "Started" in described and "Mounts:" in described
    until(lambda: site.asked("logs", "sleeper").stdout == "here\n", what="the log of sleeper")
    assert "pods" in site.edge("api-resources") and site.edge("auth", "can-i", "get", "pods") == "yes\n"
    # writing: at once here, in the pod's volume too
    watch = subprocess.Popen(
        site.machine.command(
            "env", f"HOME={site.directory}", KUBECTL, "--kubeconfig", str(site.kubeconfig),
            "get", *web, "-w", "-o", "jsonpath={.data.a}{\"\\n\"}",
        ),
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert watch.stdout and watch.stdout.readline() == "1\n"
        site.edge("patch", *web, "--type", "merge", "-p", '{"data": {"a": "edge"}}')
        assert watch.stdout.readline() == "edge\n"
    finally:
        site.machine.signal(watch, signal.SIGKILL)
        watch.communicate()
    until(lambda: site.mounted("a") == "edge", what="the pod sees the change")
    site.edge("label", "pod", "sleeper", "shift=night")
    site.edge("annotate", "pod", "sleeper", "example.com/by=ops")
    site.edge("apply", "-f", "-", input=json.dumps(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}, "data": {"a": "edge", "b": "applied"}}
    ))  # fmt: skip
    site.edge("cordon", "edge1")
    assert "SchedulingDisabled" in site.edge("get", "nodes")
    assert "kubeedge.io/pending-write" in site.edge("get", *web, "-o", "yaml")
    assert "created in the cloud" in site.fails("create", "configmap", "new")
    assert "deleted in the cloud" in site.fails("delete", *web)
    sync = json.loads(site.machine.run(*KUBEEDGE, "sync", "status", "-o", "json", "--socket", site.agent_socket))
    assert not sync["attached"] and sync["up"]["queue"] >= 4 and sync["up"]["lag"] >= sync["up"]["queue"], sync
    assert json.loads(sync["down"]["durable"])[1] > 0 and sync["down"]["keys"] >= 3 and sync["wire"]["bytesIn"] > 0
    waiting = site.pending()
    assert waiting >= 4
    (there,) = json.loads(site.admin("sync", "status", "--node", "edge1", "-o", "json"))["nodes"]
    assert (there["tenant"], there["node"]) == ("default", "edge1")
    with pytest.raises(RuntimeError, match="there is no node edge9"):
        site.admin("sync", "status", "--node", "edge9")
    # kill -9 between the write and the merge
    site.machine.signal(site.agent, signal.SIGKILL)
    site.agent.wait(90)
    site.start_again()
    assert site.pending() == waiting and site.edge("get", *web, "-o", "jsonpath={.data.b}") == "applied"
    # meanwhile somebody in the cloud changes one of the fields
    site.kubectl("patch", *web, "--type", "merge", "-p", '{"data": {"a": "cloud", "c": "cloud"}}')
    site.heal()
    until(lambda: site.pending() == 0, what="every write is answered")
    merged = {"a": "cloud", "b": "applied", "c": "cloud"}
    for ask in (site.kubectl, site.edge):
        until(lambda ask=ask: json.loads(ask("get", *web, "-o", "json"))["data"] == merged, what="one truth")  # type: ignore[misc]
        until(lambda ask=ask: "EdgeWriteConflict" in ask("get", "events"), what="the event")  # type: ignore[misc]

        def is_merged(ask: Callable[..., str] = ask) -> bool:
            pod = json.loads(ask("get", "pod", "sleeper", "-o", "json"))["metadata"]
            return bool(pod["labels"]["shift"] == "night" and pod["annotations"]["example.com/by"] == "ops")

        until(is_merged, what="what was written at the pod")
        until(lambda ask=ask: "SchedulingDisabled" in ask("get", "nodes"), what="what was written at the node")  # type: ignore[misc]
    until(lambda: site.mounted("a") == "cloud", what="the pod sees the merge")

    def nothing_waits() -> bool:
        """For a moment: the node reports now and then."""
        there = json.loads(site.admin("sync", "status", "-o", "json"))["nodes"][0]
        here = json.loads(site.machine.run(*KUBEEDGE, "sync", "status", "-o", "json", "--socket", site.agent_socket))
        assert there["node"] == "edge1" and here["attached"]
        return bool(here["up"]["queue"] == there["down"]["queue"] == 0)

    until(nothing_waits, what="both queues are empty")
    store = site.root / "var/lib/kubeedge/edge/edge.db"
    assert "whole: True" in site.machine.run(*KUBEEDGE, "store", "check", "--store", str(store))
    assert "/desired/pods" in site.machine.run(*KUBEEDGE, "store", "stats", "--store", str(store))
    answer = site.machine.run("/usr/bin/curl", "-sS", "--unix-socket", site.agent_socket, "http://agent/metrics")
    assert 'kubeedge_edge_writes_total{outcome="conflict"} 1' in answer and "kubeedge_edge_writes_pending 0" in answer
    assert 'kubeedge_sync_bytes_total{direction="up"}' in answer and "kubeedge_store_revision " in answer
    answer = site.cloud.run("/usr/bin/curl", "-sS", "--unix-socket", site.socket, "http://cloud/metrics")
    assert "kubeedge_hub_channels 1" in answer and 'kubeedge_sync_changes_total{direction="down"}' in answer
    # a deletion
    site.cut()
    site.edge("delete", "pod", "sleeper", "--timeout=80s")
    until(lambda: cgroups.processes(PREFIX) == [], what="the end of its processes")
    site.heal()
    until(lambda: "sleeper" not in site.kubectl("get", "pods"), timeout=90, what="deleted in the cloud")


def test_who_has_not_the_file_gets_nothing(site: EdgeSite) -> None:
    host = site.machine
    for path in (site.kubeconfig, *(site.root / "var/lib/kubeedge/edge/metaserver").iterdir()):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o644 if path.name == "server.crt" else 0o600), path
    config = json.loads(site.kubeconfig.read_text())
    token = config["users"][0]["user"]["token"]
    certificate = site.root / "var/lib/kubeedge/edge/metaserver/server.crt"

    def curl(*arguments: str) -> str:
        script = (
            "import ssl,sys,urllib.request,urllib.error\n"
            "c=ssl.create_default_context(cafile=sys.argv[1])\n"
            "if len(sys.argv)>4: c.load_cert_chain(sys.argv[4],sys.argv[5])\n"
            "r=urllib.request.Request(sys.argv[2],headers={'Authorization':sys.argv[3]} if sys.argv[3] else {})\n"
            "try: print(urllib.request.urlopen(r,context=c,timeout=10).status)\n"
            "except urllib.error.HTTPError as e: print(e.code)\n"
            "except Exception as e: print(type(e).__name__)\n"
        )
        url, secret, *pair = arguments
        return host.run("/usr/bin/python3", "-c", script, str(certificate), url, secret, *pair).strip()

    pods = "https://127.0.0.1:10550/api/v1/pods"
    assert curl(pods, "") == "401" and curl(pods, "Bearer x") == "401" and curl(pods, f"Bearer {token}x") == "401"
    assert curl(pods, "Bearer ") == "401" and curl(pods, f"Basic {token}") == "401"
    assert curl(pods, f"Bearer {token}") == "200"
    assert curl("http://127.0.0.1:10550/api/v1/pods", f"Bearer {token}") not in ("200", "401")  # no plain HTTP
    pki = site.root / "etc/kubeedge/pki"
    assert curl(pods, "", str(pki / "node.crt"), str(pki / "node.key")) == "403"  # a node is no user
    admin = site.directory / "state/pki/admin-default"
    assert curl(pods, "", f"{admin}.crt", f"{admin}.key") == "200"
    done = subprocess.run(
        host.command("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat", str(site.kubeconfig)),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0 and "denied" in done.stderr
    host.run("ss", "-ltn", "sport = :10550").index("127.0.0.1:10550")  # not on the address of the node
    log = (site.directory / "edge.log").read_text()
    assert token not in log
    host.run(*KUBEEDGE, "reset", "--force", "--root-dir", str(site.root))
    assert [p for p in site.root.rglob("*") if not p.is_dir()] == []


def test_bodies_that_are_garbage_change_nothing_and_the_agent_lives(site: EdgeSite) -> None:
    token = json.loads(site.kubeconfig.read_text())["users"][0]["user"]["token"]
    script = """
import http.client, json, ssl, sys
def ask(method, path, body, kind="application/merge-patch+json"):
    c = http.client.HTTPSConnection("127.0.0.1", 10550, timeout=30, context=ssl.create_default_context(cafile=sys.argv[1]))
    try:
        c.request(method, path, body, {"Authorization": "Bearer " + sys.argv[2], "Content-Type": kind})
        return c.getresponse().status
    except OSError as e:
        return type(e).__name__
    finally:
        c.close()
web = "/api/v1/namespaces/default/configmaps/web"
bodies = [b"", b"null", b"7", b"[]", b"\\xff\\xfe", b'{"data":' * 5000, b"[" * 100000, b'{"data": {"a": 1}}', b'{"data": null, "kind": "Pod"}',
          b'{"metadata": {"resourceVersion": "99999999999999999999"}}', b'{"metadata": {"name": "x"}}', b'{"spec": {}}', b'{"metadata": null}',
          b'{"data": {"big": "' + b"x" * 4_000_000 + b'"}}']
print(json.dumps([ask("PATCH", web, b) for b in bodies] + [ask("PUT", web, b, "application/json") for b in bodies]
  + [ask("GET", "/api/v1/namespaces/default/configmaps/" + n, None) for n in ("..", "%2e%2e%2fsecrets%2fx", "a%00b", "x" * 300)]
  + [ask("GET", "/api/v1/pods?resourceVersion=x&watch=1", None), ask("GET", "/api/v1/pods?continue=zzz", None)]))
"""
    certificate = site.root / "var/lib/kubeedge/edge/metaserver/server.crt"
    answers: list[Any] = json.loads(site.machine.run("/usr/bin/python3", "-c", script, str(certificate), token))
    assert not any(isinstance(a, int) and a >= 500 for a in answers), answers
    assert json.loads(site.kubectl("get", "configmap", "web", "-o", "json"))["data"] == {"a": "1", "b": "1"}
    assert site.edge("get", "configmap", "web", "-o", "jsonpath={.data.a}{.data.b}") == "11"
    site.until_modules_are_ready()
    assert "Traceback" not in (site.directory / "edge.log").read_text()
