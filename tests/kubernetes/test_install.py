"""The cloud side in a real cluster: the image on one of its machines, installed by `kubeedge init` and by real Helm."""

from __future__ import annotations

import base64
import itertools
import json
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kubeedge_cloud.edgecontroller.tolerations import AUTONOMY, LABEL
from kubeedge_cloud.install import chart, permissions
from kubeedge_cloud.install.values import with_sets
from tests.kit import cloud_image
from tests.kit.cluster import KubernetesCluster
from tests.kit.cluster.site import IMAGE
from tests.kit.topology import Host, Topology, until
from tests.kit.upstream import build
from tests.kubernetes.vm import edge_node, kubeedge, vm_node
from tests.netns.test_mappers import BOILER
from tests.unit.install.test_chart import HOSTS, VARIANTS

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[2]
CHART = ROOT / "cloud/chart/kubeedge"
VM = "203.0.113.20"
PODS = "10.99.1.0/24"  # on it
#: there is neither a load balancer nor a provisioner of volumes
VALUES = "expose.type=ClusterIP,store.persistence.enabled=false"
#: everything that the cloud side may come to import, in an image that has no more than that
_IMPORTS = """
import importlib, pkgutil, kubeedge_cloud
for found in pkgutil.walk_packages(kubeedge_cloud.__path__, "kubeedge_cloud."):
    if not found.name.startswith("kubeedge_cloud.chart"):
        importlib.import_module(found.name)
import aetcd, bz2, decimal, kubernetes.config, kubernetes.stream, lzma, multiprocessing, sqlite3, ssl, uuid, zoneinfo
assert ssl.create_default_context().get_ca_certs()
"""
_POD = {
    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "there", "labels": {LABEL: AUTONOMY}},
    "spec": {
        "nodeName": "cam7", "terminationGracePeriodSeconds": 1,
        "containers": [
            {"name": "c", "image": IMAGE, "command": ["sh", "-c", "echo at the edge; exec sleep 100000"]}
        ],
    },
}  # fmt: skip
_DEVICE = {
    "apiVersion": "devices.kubeedge.io/v1beta1", "kind": "Device", "metadata": {"name": "valve"},
    "spec": {"deviceModelRef": {"name": "valve"}, "nodeName": "cam7", "protocol": {"protocolName": "acme"}},
}  # fmt: skip
_MODEL = {
    "apiVersion": "devices.kubeedge.io/v1beta1", "kind": "DeviceModel", "metadata": {"name": "valve"},
    "spec": {"protocol": "acme", "properties": [{"name": "open", "type": "BOOLEAN"}]},
}  # fmt: skip
_RULE = {
    "apiVersion": "rules.kubeedge.io/v1", "kind": "Rule", "metadata": {"name": "lost"},
    "spec": {"source": "nobody", "sourceResource": {"path": "/x"}, "target": "nobody", "targetResource": {"topic": "x"}},
}  # fmt: skip
_AUTHORITY = "print(open('/var/lib/kubeedge/cloud/pki/ca.crt').read())"
_TAKEN_OVER = '--for=jsonpath={.status.conditions[?(@.type=="Ready")].reason}=MapperSilent'
#: a visitor at the kubelet port of cam7; whose certificate that is the pod's own authority says
_ASK = """
import http.client, ssl, sys
context = ssl.create_default_context(cafile="/var/lib/kubeedge/cloud/pki/ca.crt")
connection = http.client.HTTPSConnection("127.0.0.1", 20250, context=context, timeout=30)
connection.request("GET", "/pods", headers={"authorization": "Bearer " + sys.argv[1]})
print(connection.getresponse().status)
"""
_SCAN = (sys.executable, "-m", "kubeedge", "devices", "scan", "--finder", "modbus", "127.0.0.1")
ACCOUNT = "system:serviceaccount:kubeedge:kubeedge-cloud"
_PROCESS = b"kubeedge\0cloud\0--config"


_AUDIT = {
    "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "users": [ACCOUNT]}, {"level": "None"}],
}  # fmt: skip


@dataclass
class Site:
    cluster: KubernetesCluster
    vm: Host
    machine: Host  # that joins

    @contextmanager
    def edge(self, cloud: str, token: str) -> Iterator[None]:
        """The machine as the node cam7; the cloud side's pod has the address `cloud`, and the name cloud.test."""
        with tempfile.NamedTemporaryFile("w") as hosts:
            hosts.write(f"127.0.0.1 localhost\n{cloud} cloud.test\n")
            hosts.flush()
            self.machine.run("mount", "--bind", hosts.name, "/etc/hosts")
            with edge_node(self.machine, "cam7", "cloud.test:10002", token, {"devices": {"enable": True}}):
                yield

    def kubeedge(self, *arguments: str, user: Path | None = None, status: int = 0) -> str:
        """What it said on both streams; its exit status has to be `status`."""
        return kubeedge(self.cluster, *arguments, user=user, status=status)

    def helm(self, *arguments: str) -> str:
        kubeconfig = self.cluster.kubeconfig()
        home = f"HOME={self.cluster.directory}"
        return self.cluster.host.run(
            "env",
            home,
            str(build.program("helm")),
            f"--kubeconfig={kubeconfig}",
            "-n",
            "kubeedge",
            *arguments,
            timeout=300,
        )

    def refused_by_helm(self, *arguments: str) -> str:
        """What Helm said, which has to fail."""
        with pytest.raises(RuntimeError) as caught:
            self.helm(*arguments)
        return str(caught.value)

    def pods(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.cluster.json("get", "pods", "-n", "kubeedge")["items"]
        return found

    def processes(self) -> list[int]:
        return self.vm.running(_PROCESS)

    def process(self) -> int:
        """The one, which is waited for."""
        return self.vm.process(_PROCESS)


def _find_and_approve(site: Site, pid: int) -> None:
    """The cloud makes a Device of what a node has found, and another one of it when that gets a name."""
    boiler = site.machine.spawn(sys.executable, "-c", BOILER, log=site.cluster.directory / "boiler.log")
    try:
        until(lambda: "on their way" in site.machine.run(*_SCAN, check=False), what="the boiler to answer")
        found = "cam7-modbus-127-0-0-1-1"
        until(lambda: site.cluster.kubectl("get", "device", found, "--ignore-not-found") != "", what="the Device")
        inside(pid, "/usr/bin/kubeedge", "devices", "approve", found, "--model", "valve", "--name", "boiler")
        site.cluster.kubectl("get", "device", "boiler")
        assert site.cluster.kubectl("get", "device", found, "--ignore-not-found") == ""
        site.cluster.kubectl("delete", "device", "boiler", timeout=150)
    finally:
        site.machine.signal(boiler, signal.SIGTERM)


def test_a_machine_joins_the_cluster_and_runs_a_pod_by_the_rights_of_the_table(site: Site) -> None:
    """init, gettoken, join, and kubectl. The API server's audit log says what was asked for, what was refused, and what nobody asked for."""
    site.kubeedge("init", "--advertise", "cloud.test", "--set", f"{VALUES},devices.enabled=true")
    for name in ("devices", "devicemodels"):
        site.cluster.kubectl("wait", "--for=condition=Established", f"crd/{name}.devices.kubeedge.io", "--timeout=60s")
    pid = site.process()
    site.cluster.apply(_RULE)
    (pod,) = site.pods()
    token = re.search(r"^[0-9a-f]{64}\.\w{6}\.\w+$", said := site.kubeedge("gettoken", "--node", "cam7"), re.MULTILINE)
    assert token, said
    with site.edge(pod["status"]["podIP"], token[0]):
        site.cluster.kubectl("wait", "--for=condition=Ready", "node/cam7", "--timeout=120s", timeout=150)
        node = site.cluster.json("get", "node", "cam7")
        assert "node-role.kubernetes.io/edge" in node["metadata"]["labels"]
        assert node["status"]["addresses"][0]["address"] == pod["status"]["podIP"]
        site.cluster.apply(_POD)
        site.cluster.kubectl("wait", "--for=condition=Ready", "pod/there", "--timeout=120s", timeout=150)
        logs = ("logs", "there")
        until(lambda: site.cluster.kubectl(*logs, check=False) == "at the edge\n", what="the pod's log", interval=0.2)
        assert site.cluster.kubectl("exec", "there", "--", "sh", "-c", "echo inside") == "inside\n"
        site.cluster.kubectl("create", "serviceaccount", "visitor")
        visitor = site.cluster.kubectl("create", "token", "visitor").strip()
        assert inside(pid, "/usr/bin/python3", "-I", "-c", _ASK, visitor).strip() == "403"
        site.cluster.kubectl("delete", "pod", "there", timeout=150)
        site.cluster.apply(_DEVICE)
        site.cluster.apply(_MODEL)
        site.cluster.kubectl("wait", "device/valve", _TAKEN_OVER, "--timeout=120s", timeout=150)
        site.cluster.kubectl("delete", "device", "valve", timeout=150)
        _find_and_approve(site, pid)
    until(
        lambda: "no RuleEndpoint nobody" in str(site.cluster.json("get", "rule", "lost").get("status")),
        what="what is wrong with a rule",
    )
    crd = site.cluster.json("get", "crd", "devices.devices.kubeedge.io")
    config = crd["spec"]["conversion"]["webhook"]["clientConfig"]
    authority = inside(pid, "/usr/bin/python3", "-I", "-c", _AUTHORITY)
    assert base64.b64decode(config.pop("caBundle")).decode().strip() == authority.strip()
    assert config["service"]["namespace"] == "kubeedge" and "url" not in config
    inside(pid, "/usr/bin/kubeedge", "node", "remove", "cam7")
    until(lambda: not site.cluster.kubectl("get", "node", "cam7", "--ignore-not-found"), what="the Node to go")

    log = site.cluster.directory / "audit.log"
    events = [
        json.loads(line) for line in log.read_text().rpartition("\n")[0].splitlines()
    ]  # the last may be half written
    refused = [event for event in events if _status(event).get("code") == 403 and not _too_early(event)]
    shown = [(e["verb"], e["requestURI"], e.get("impersonatedUser"), _status(e).get("message")) for e in refused]
    assert shown == []
    own = [
        event["objectRef"] | {"verb": event["verb"]}
        for event in events
        if "impersonatedUser" not in event and "objectRef" in event
    ]
    asked = {(each.get("apiGroup", ""), _resource(each), each["verb"]) for each in own}
    given = {right for rule in (*permissions.RULES, *permissions.DEVICE_RULES) for right in rule.asked()}
    assert asked <= given | {("authorization.k8s.io", "selfsubjectaccessreviews", "create")}
    # an annotation and Events come with what pods do; lists with the watch, where the server streams them; impersonation is no request
    later = {("", "nodes", "patch"), ("", "events", "create"), ("", "events", "patch")}
    unused = {right for right in given - asked - later if right[2] not in ("get", "list", "impersonate")}
    assert not unused
    site.kubeedge("reset", "cloud", "--force", "--delete-data")


def _status(event: dict[str, Any]) -> dict[str, Any]:
    """{} of a request that was broken off."""
    return event.get("responseStatus") or {}


def _resource(ref: dict[str, str]) -> str:
    """As rules write it: with its subresource."""
    return "/".join((ref["resource"], *filter(None, (ref.get("subresource"),))))


def _too_early(event: dict[str, Any]) -> bool:
    """A node asked for data of a pod of which the Node authorizer's graph does not know yet, or any more: it asks again, as kubelets do."""
    said = _status(event).get("message", "")
    return "impersonatedUser" in event and "no relationship found between node" in said


def inside(pid: int, *command: str) -> str:
    """Output of a program in the pod, as its user."""
    enter = ["nsenter", f"--target={pid}", "--all", "--setuid=65532", "--setgid=65532"]
    return subprocess.run([*enter, *command], check=True, timeout=120, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cloud_image.build(tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, image: Path) -> Iterator[Site]:
    with Topology() as net:
        control, vm, machine = net.host("control"), net.host("vm"), net.host("machine")
        net.wire(control, "203.0.113.10/24", vm, f"{VM}/24")
        net.wire(machine, "192.0.2.2/24", vm, "192.0.2.1/24")
        for host, router in ((control, VM), (machine, "192.0.2.1")):
            host.run("ip", "route", "add", PODS, "via", router)
        vm.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        directory = tmp_path_factory.mktemp("kubernetes")
        (directory / "audit.yaml").write_text(json.dumps(_AUDIT))
        audit = [f"--audit-policy-file={directory}/audit.yaml", f"--audit-log-path={directory}/audit.log"]
        # kubelets' certificates are of any authority, as kubeadm has it
        options = {"kube-apiserver": [*audit, "--kubelet-certificate-authority="]}
        cluster = KubernetesCluster(control, directory, address="203.0.113.10", options=options)
        cluster.start()
        with vm_node(cluster, vm, VM, directory / "vm", image):
            yield Site(cluster, vm, machine)


@pytest.fixture(autouse=True)
def nothing_is_left(site: Site) -> Iterator[None]:
    """A test that fails leaves the next one a cluster without a cloud side."""
    yield
    if site.cluster.kubectl("get", "namespace", "kubeedge", "--ignore-not-found"):
        site.cluster.kubectl("delete", "namespace", "kubeedge", timeout=150)
        site.cluster.kubectl("delete", "clusterrole,clusterrolebinding", "-l", "app.kubernetes.io/part-of=kubeedge")


def test_init_installs_it_once_and_removes_it(site: Site) -> None:
    assert "would be created" in site.kubeedge("init", "--advertise", VM, "--set", VALUES, "--dry-run")
    assert not site.cluster.kubectl("get", "namespace", "kubeedge", "--ignore-not-found")
    said = site.kubeedge("init", "--advertise", VM, "--set", VALUES)
    ready = re.search(r"Ready after (\S+) s", said)
    assert ready, said
    print(f"init to Ready: {ready[1]} s")
    assert f"kubeedge join --name NAME --token TOKEN {VM}:10002" in said

    _runs_with_nothing_that_it_does_not_need(site)
    _has_the_rights_of_the_table(site)

    (before,) = site.pods()
    said = site.kubeedge("init")
    assert "created" not in said and "configured" not in said and "unchanged" in said
    said = site.kubeedge("upgrade", "--set", "config.logging.level=debug")
    assert "ConfigMap kubeedge-cloud: configured" in said
    until(
        lambda: [p["metadata"]["name"] for p in site.pods()] != [before["metadata"]["name"]],
        what="a new pod",
    )

    assert "the cloud side is Ready" in site.kubeedge("debug", "check")
    archive = site.cluster.directory / "report.tar.gz"
    site.kubeedge("debug", "collect", "-o", str(archive))
    with tarfile.open(archive) as tar:
        names = tar.getnames()
    assert "Pod.json" in names and not [name for name in names if "ecret" in name]

    assert "a cloud side already, in namespace kubeedge" in site.kubeedge(
        "init", "-n", "other", "--advertise", VM, status=1
    )
    for namespace in ("kubeedge", "default"):
        values = ("--set", f"advertise={{{VM}}}", "--set", VALUES)
        said = site.refused_by_helm("install", "by-helm", str(CHART), *values, f"--namespace={namespace}")
        assert "installed by `kubeedge init` in namespace kubeedge" in said
    assert "--force" in site.kubeedge("reset", "cloud", status=1)
    site.kubeedge("reset", "cloud", "--force", "--delete-data")
    assert not site.cluster.kubectl("get", "namespace", "kubeedge", "--ignore-not-found")
    assert not site.cluster.kubectl(
        "get", "clusterroles,clusterrolebindings", "-l", "app.kubernetes.io/part-of=kubeedge"
    )
    until(lambda: not site.processes(), what="the end of the pod's process")
    assert "there was nothing to remove" in site.kubeedge("reset", "cloud", "--force", "--delete-data")


def _runs_with_nothing_that_it_does_not_need(site: Site) -> None:
    """The namespace enforces the restricted Pod Security level; here is what that comes to."""
    labels = site.cluster.json("get", "namespace", "kubeedge")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    pid = site.process()
    status = dict(re.findall(r"^(\w+):\s*(.*)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE))
    assert status["Uid"].split() == ["65532"] * 4 and status["Gid"].split() == ["65532"] * 4
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    mounts = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    (root,) = [fields for fields in mounts if fields[4] == "/"]
    assert "ro" in root[5].split(",")
    assert not (Path(f"/proc/{pid}/root") / "bin/sh").exists()
    inside(pid, "/usr/bin/python3", "-I", "-c", _IMPORTS)
    assert re.fullmatch(
        r"[0-9a-f]{64}\.\w{6}\.\w+\n", inside(pid, "/usr/bin/kubeedge", "token", "create", "--node", "cam7")
    )


def _has_the_rights_of_the_table(site: Site) -> None:
    """And no others: what it may do for a node is that node's."""
    rules = site.cluster.json("get", "clusterrole", "kubeedge-cloud")["rules"]
    assert rules == permissions.rules()
    can = lambda *words: site.cluster.kubectl("auth", "can-i", *words, f"--as={ACCOUNT}", check=False).strip()  # noqa: E731
    assert can("list", "pods", "-A") == can("impersonate", "groups/system:nodes") == "yes"
    for words in (("get", "secrets", "-A"), ("create", "pods", "-A"), ("impersonate", "groups/system:masters")):
        assert can(*words) == "no", words


def test_what_keeps_it_from_working_is_said(site: Site, tmp_path: Path) -> None:
    jane = site.cluster.kubeconfig("jane", ["developers"])
    said = site.kubeedge("init", "--advertise", VM, user=jane, status=1)
    assert (
        "may not: get, list, create, patch, delete" in said
        and "deployments.apps in kubeedge" in said
        and "next: ask for" in said
    )
    expired = site.cluster.identities.kubeconfig("late", ["system:masters"], days=(-2, -1))
    assert "wrong or expired" in site.kubeedge("init", "--advertise", VM, user=expired, status=1)
    nobody = site.cluster.identities.kubeconfig("far", server="https://203.0.113.10:1")
    assert "does not answer" in site.kubeedge("init", "--advertise", VM, user=nobody, status=1)
    (broken := tmp_path / "config").write_text("{")
    for path in (broken, tmp_path / "none"):
        assert f"kubeconfig {path} cannot be used" in site.kubeedge("init", "--advertise", VM, user=path, status=1)
    unchecked = site.cluster.identities.kubeconfig("unchecked", **{"insecure-skip-tls-verify": True})
    config = json.loads(unchecked.read_text())
    del config["clusters"][0]["cluster"]["certificate-authority"]
    unchecked.write_text(json.dumps(config))
    assert "insecure-skip-tls-verify" in site.kubeedge("init", "--advertise", VM, user=unchecked, status=1)
    assert "which names or addresses" in site.kubeedge("init", status=1)
    assert not site.cluster.kubectl("get", "namespace", "kubeedge", "--ignore-not-found")

    # an image that cannot be had, and a field that somebody else has set
    said = site.kubeedge(
        "init",
        "--advertise",
        VM,
        "--set",
        f"{VALUES},image.pullPolicy=Never,image.tag=none",
        "--timeout",
        "3",
        status=1,
    )
    assert "not Ready within 3 s" in said, said
    until(lambda: "cloud is ErrImageNeverPull" in _diagnosed(site), what="the reason")
    site.cluster.kubectl("-n", "kubeedge", "patch", "deployment", "kubeedge-cloud", "-p", '{"spec":{"replicas":0}}')
    said = site.kubeedge("init", "--no-wait", status=1)
    assert "Deployment kubeedge-cloud" in said and ".spec.replicas" in said and "--force takes" in said
    site.kubeedge("init", "--no-wait", "--force")
    assert "no pod of the cloud side is Ready" in site.kubeedge("gettoken", "--node", "x", status=1)
    site.kubeedge("reset", "cloud", "--force", "--delete-data")


def _diagnosed(site: Site) -> str:
    return site.kubeedge("debug", "diagnose", status=1)


def test_the_api_server_takes_every_variant(site: Site) -> None:
    """All kinds of exposure and store, with and without a TUN or a router: nothing is made, and nothing is unknown or refused."""
    site.cluster.kubectl("create", "namespace", "kubeedge")
    refused = {}
    for name, sets in variants().items():
        rendered = chart.load().render(with_sets({}, sets), namespace="kubeedge")
        known = [each for each in rendered if each["kind"] != "ServiceMonitor"]  # of the Prometheus operator
        manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": known})
        said = site.cluster.kubectl(
            "apply", "--dry-run=server", "--validate=strict", "-f", "-", input=manifest, timeout=120
        )
        if said.count("(server dry run)") != len(known):
            refused[name] = said
    assert not refused
    assert site.cluster.json("get", "deployments,services", "-n", "kubeedge")["items"] == []
    site.cluster.kubectl("delete", "namespace", "kubeedge")


def variants() -> dict[str, list[str]]:
    """Those of the chart's own tests, and all combinations of what is independent."""
    found = {name: sets for name, sets in VARIANTS.items() if name != "everything"}
    stores = {
        "sqlite": "store.persistence.storageClass=fast",
        "no volume": "store.persistence.enabled=false",
        "etcd": "store.etcd.endpoints={a:2379,b:2379,c:2379},store.etcd.secret=etcd,authority.secret=authority,replicas=3",
    }
    extras = {
        "plain": "rbac.create=true",
        "tun": "tun.enabled=true",
        "router": "router.enabled=true,router.networks={10.96.0.0/16}",
    }
    for exposure, (store, values), (extra, more) in itertools.product(
        ("LoadBalancer", "NodePort", "HostNetwork", "ClusterIP"), stores.items(), extras.items()
    ):
        if store != "etcd" or extra == "plain":  # one process has the TUN
            found[f"{exposure}, {store}, {extra}"] = [HOSTS, f"expose.type={exposure},{values},{more}"]
    return found


def test_helm_installs_upgrades_and_removes_it(site: Site) -> None:
    """The chart, by real Helm, into a namespace that enforces `restricted`."""
    site.cluster.kubectl("create", "namespace", "kubeedge")
    site.cluster.kubectl("label", "namespace", "kubeedge", "pod-security.kubernetes.io/enforce=restricted")
    values = ("--set", f"advertise={{{VM}}}", "--set", VALUES)
    site.helm("install", "kubeedge", str(CHART), *values, "--wait", "--timeout", "120s")
    site.process()
    assert "is managed by Helm" in site.kubeedge("init", "--advertise", VM, status=1)
    assert "is managed by Helm" in site.kubeedge("reset", "cloud", "--force", status=1)
    (before,) = site.pods()
    site.helm(
        "upgrade", "kubeedge", str(CHART), *values, "--set", "config.logging.level=debug", "--wait", "--timeout", "120s"
    )
    (after,) = (pod for pod in site.pods() if not pod["metadata"].get("deletionTimestamp"))
    assert after["metadata"]["name"] != before["metadata"]["name"]
    there = "this cluster has a cloud side already, release kubeedge in namespace kubeedge"
    assert there in site.refused_by_helm("install", "second", str(CHART), *values)
    assert there in site.refused_by_helm("install", "kubeedge", str(CHART), *values, "--namespace=default")
    assert "still in use" in site.refused_by_helm("install", "kubeedge", str(CHART), *values)
    assert "a cloud side already, in namespace kubeedge" in site.kubeedge(
        "init", "-n", "other", "--advertise", VM, status=1
    )
    assert site.helm("list", "--all-namespaces", "--short").split() == ["kubeedge"]
    (still,) = (pod for pod in site.pods() if not pod["metadata"].get("deletionTimestamp"))
    assert still["metadata"]["uid"] == after["metadata"]["uid"]
    site.helm("uninstall", "kubeedge", "--wait", "--timeout", "120s")
    until(lambda: not site.pods() and not site.processes(), what="the end of the pod")
    site.cluster.kubectl("delete", "namespace", "kubeedge")
