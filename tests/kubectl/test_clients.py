"""Today's clients, the newest kubectl and Helm, against an API that calls itself older: bodies in protobuf, reviews, debug, explain, charts."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from kubeedge.api.resources import LEASES, NODES
from tests.kit.upstream import build
from tests.kubectl import charts
from tests.kubectl.conftest import DEBIAN, Cluster, Kubectl
from tests.kubectl.test_verbs import start_pod

PANIC = re.compile(r"^panic:|^goroutine \d+|nil pointer", re.MULTILINE)
IN_PROTOBUF = "6b 38 73 00"  # how a body begins, in the dump that kubectl -v=8 makes of it
FORCED = (
    "Warning: Immediate deletion does not wait for confirmation that the running resource has been terminated. "
    "The resource may continue to run on the cluster indefinitely.\n"
)


@pytest.fixture
def kubectl(cluster: Cluster) -> Kubectl:
    return cluster.kubectl(build.program("kubectl"))


@pytest.fixture
def helm(cluster: Cluster) -> Kubectl:
    return cluster.kubectl(build.program("helm"))


@pytest.fixture
def node(cluster: Cluster) -> str:
    name = f"node-{os.urandom(4).hex()}"
    status = {
        "allocatable": {"cpu": "4", "memory": "4Gi", "pods": "110"},
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    cluster.call(cluster.registry.create(NODES, "", {"metadata": {"name": name}, "status": status}))
    return name


@pytest.fixture
def chart(tmp_path: Path) -> str:
    return charts.write(tmp_path / "chart")


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("deployment", ("deployment", "x", "--image=busybox:1", "--replicas=2", "--port=80")),
        ("serviceaccount", ("serviceaccount", "x")),
        ("secret", ("secret", "generic", "x", "--from-literal=key=value")),
        ("configmap", ("configmap", "x", "--from-literal=key=value")),
        ("service", ("service", "clusterip", "x", "--tcp=80:8080")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_create_sends_protobuf(kubectl: Kubectl, namespace: str, kind: str, arguments: tuple[str, ...]) -> None:
    done = kubectl.run("create", *arguments, "-n", namespace, "-v=8")
    assert done.returncode == 0 and "created" in done.stdout, done.stderr
    assert IN_PROTOBUF in done.stderr
    found = json.loads(kubectl("get", kind, "x", "-n", namespace, "-o", "json"))
    match kind:
        case "deployment":
            container = found["spec"]["template"]["spec"]["containers"][0]
            assert found["spec"]["replicas"] == 2 and container["ports"] == [{"containerPort": 80, "protocol": "TCP"}]
        case "secret":
            assert found["data"] == {"key": "dmFsdWU="} and found["type"] == "Opaque"
        case "configmap":
            assert found["data"] == {"key": "value"}
        case "service":
            (port,) = found["spec"]["ports"]
            assert (port["port"], port["targetPort"]) == (80, 8080) and found["spec"]["clusterIP"].startswith("10.")
    kubectl("delete", kind, "x", "-n", namespace)


def test_create_namespace_sends_protobuf(kubectl: Kubectl) -> None:
    name = f"t{os.urandom(4).hex()}"
    done = kubectl.run("create", "namespace", name, "-v=8")
    assert done.returncode == 0 and IN_PROTOBUF in done.stderr
    assert "Active" in kubectl("get", "namespace", name)
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.mark.parametrize(
    "arguments",
    [("job", "x", "--image=busybox:1"), ("role", "x", "--verb=get", "--resource=pods")],
    ids=lambda arguments: arguments[0],
)
def test_what_is_not_there_is_a_clean_error(kubectl: Kubectl, namespace: str, arguments: tuple[str, ...]) -> None:
    said = kubectl.fails("create", *arguments, "-n", namespace)
    assert "the server could not find the requested resource" in said and not PANIC.search(said)


def test_a_token_is_created_and_opens_what_its_account_may(kubectl: Kubectl, cluster: Cluster, namespace: str) -> None:
    kubectl("create", "serviceaccount", "robot", "-n", namespace)
    done = kubectl.run("create", "token", "robot", "-n", namespace, "--duration=20m", "-v=8")
    assert done.returncode == 0 and IN_PROTOBUF in done.stderr, done.stderr
    token = done.stdout.strip()
    server = ("--kubeconfig=/dev/null", f"--server=https://127.0.0.1:{cluster.port}")
    robot = (*server, f"--certificate-authority={cluster.authority.certificate}", f"--token={token}", "-n", namespace)
    assert f"system:serviceaccount:{namespace}:robot" in kubectl("auth", "whoami", *robot)
    denied = f'User "system:serviceaccount:{namespace}:robot" cannot list resource "pods"'
    assert denied in kubectl.fails("get", "pods", *robot)
    assert kubectl.run("auth", "can-i", "list", "pods", *robot).stdout.strip() == "no"
    kubectl("annotate", "serviceaccount", "robot", "kubeedge.io/access=view", "-n", namespace)
    assert kubectl("auth", "can-i", "list", "pods", *robot).strip() == "yes"
    kubectl("get", "pods", *robot)
    assert "forbidden" in kubectl.fails("get", "secrets", *robot) and "forbidden" in kubectl.fails(
        "get", "nodes", *robot
    )
    kubectl("delete", "serviceaccount", "robot", "-n", namespace)
    assert "Unauthorized" in kubectl.fails("get", "pods", *robot)


def test_who_am_i_and_what_may_i(kubectl: Kubectl) -> None:
    assert kubectl("auth", "can-i", "create", "deployments.apps").strip() == "yes"
    assert ["*.*", "[]", "[]", "[*]"] in [line.split() for line in kubectl("auth", "can-i", "--list").splitlines()]
    said = kubectl("auth", "whoami")
    assert re.search(r"Username +admin\n", said) and "tenant:a" in said


def test_debug_of_a_node_makes_a_pod_there(kubectl: Kubectl, namespace: str, node: str) -> None:
    said = kubectl("debug", f"node/{node}", "-n", namespace, "--image=busybox:1", "--profile=general")
    assert f"on node {node}" in said
    (pod,) = json.loads(kubectl("get", "pods", "-n", namespace, "-o", "json"))["items"]
    assert pod["spec"]["nodeName"] == node and pod["spec"]["hostPID"] is True


def test_debug_of_a_pod_adds_a_container_and_its_copy_works(kubectl: Kubectl, cluster: Cluster, namespace: str) -> None:
    start_pod(cluster, namespace, "one")
    inside = ("-n", namespace, "--image=busybox:1", "--profile=general")
    (main,) = json.loads(kubectl("get", "pod", "one", "-n", namespace, "-o", "json"))["spec"]["containers"]
    for name in ("look", "again"):
        kubectl("debug", "one", *inside, f"--container={name}", f"--target={main['name']}", "--attach=false")
    pod = json.loads(kubectl("get", "pod", "one", "-n", namespace, "-o", "json"))
    added = pod["spec"]["ephemeralContainers"]
    assert [(c["name"], c["targetContainerName"]) for c in added] == [(n, main["name"]) for n in ("look", "again")]
    assert pod["metadata"]["generation"] == 3 and pod["spec"]["containers"] == [main]
    assert "Ephemeral Containers" in kubectl("describe", "pod", "one", "-n", namespace)
    said = kubectl.fails("debug", "one", *inside, "--container=bad", "--target=nobody", "--attach=false")
    assert "nobody" in said and not PANIC.search(said)
    kubectl("debug", "one", *inside, "--copy-to=two")
    copy = json.loads(kubectl("get", "pod", "two", "-n", namespace, "-o", "json"))
    assert len(copy["spec"]["containers"]) == 2


def test_a_resize_is_a_patch_of_its_subresource(kubectl: Kubectl, namespace: str) -> None:
    def resources(cpu: str) -> dict[str, object]:
        return {"limits": {"cpu": cpu, "memory": "8Mi"}, "requests": {"cpu": cpu, "memory": "8Mi"}}

    def patch(change: dict[str, object]) -> str:
        return json.dumps({"spec": {"containers": [{"name": "c", **change}]}})

    spec = {"containers": [{"name": "c", "image": "busybox:1", "resources": resources("100m")}]}
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}
    kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(manifest))
    resize = ("patch", "pod", "p", "-n", namespace, "--subresource=resize", "-p")
    kubectl(*resize, patch({"resources": resources("200m")}))
    pod = json.loads(kubectl("get", "pod", "p", "-n", namespace, "-o", "json"))
    assert pod["spec"]["containers"][0]["resources"] == resources("200m") and pod["metadata"]["generation"] == 2
    assert "QOS Class may not change" in kubectl.fails(*resize, patch({"resources": {"limits": {"cpu": "300m"}}}))
    in_place = ("patch", "pod", "p", "-n", namespace, "-p", patch({"resources": resources("300m")}))
    assert "may not change fields" in kubectl.fails(*in_place)


def test_a_forced_deletion_does_not_wait_for_the_node(kubectl: Kubectl, cluster: Cluster, namespace: str) -> None:
    start_pod(cluster, namespace, "one")
    done = kubectl.run("delete", "pod", "one", "-n", namespace, "--grace-period=0", "--force")
    assert (done.returncode, done.stderr) == (0, FORCED)
    assert "force deleted" in done.stdout
    assert "NotFound" in kubectl.fails("get", "pod", "one", "-n", namespace)


def test_get_and_describe_of_a_node(kubectl: Kubectl, node: str) -> None:
    assert kubectl("get", "node", node, "-o", "wide").splitlines()[1].split()[:2] == [node, "Ready"]
    said = kubectl("describe", "node", node)
    assert re.search(r"Non-terminated Pods: +\(0 in total\)", said) and "Allocated resources:" in said


def test_explain_knows_the_fields(kubectl: Kubectl) -> None:
    said = kubectl("explain", "pod.spec.containers")
    assert "FIELD: containers <[]Container>" in said and re.search(r"env\s<\[\]EnvVar>", said)
    assert "FIELD: allocatable <map[string]Quantity>" in kubectl("explain", "node.status.allocatable")
    said = kubectl("explain", "deployments", "--recursive")
    assert said.startswith("GROUP:      apps\nKIND:       Deployment\nVERSION:    v1\n") and "maxSurge" in said
    assert "FIELDS:" in kubectl("explain", "lease")


def test_explain_says_what_they_are(kubectl: Kubectl) -> None:
    said = " ".join(kubectl("explain", "pod.spec.containers").split())
    assert "DESCRIPTION: What runs in the pod; at least one." in said
    assert "imagePullPolicy <string> Always, IfNotPresent or Never." in said
    assert "livenessProbe <Probe> When this fails, the container is restarted." in said
    assert "<empty>" not in said and "<no description>" not in said
    for kind in (
        "pods",
        "nodes",
        "deployments",
        "services",
        "configmaps",
        "secrets",
        "events",
        "leases",
        "endpointslices",
        "networkpolicies",
    ):
        said = kubectl("explain", kind)
        assert "DESCRIPTION:" in said and "<empty>" not in said and "<no description>" not in said, said
    assert "for which it counts" in kubectl("explain", "lease.spec.leaseDurationSeconds")


@pytest.mark.parametrize("binary", ["debian", "newest"])
def test_describe_of_a_node_shows_its_lease(cluster: Cluster, node: str, binary: str) -> None:
    kubectl = cluster.kubectl(DEBIAN if binary == "debian" else build.program("kubectl"))
    spec = {"holderIdentity": node, "leaseDurationSeconds": 40, "renewTime": "2020-01-01T00:00:00.000000Z"}
    cluster.call(cluster.registry.create(LEASES, "kube-node-lease", {"metadata": {"name": node}, "spec": spec}))
    away = kubectl("describe", "node", node)
    assert re.search(rf"Lease:\n +HolderIdentity: +{node}\n", away) and "2020" in away, away
    cluster.call(cluster.store.put(f"/sessions/a/{node}", b"{}"))
    said = kubectl("describe", "node", node)
    assert re.search(r"RenewTime: +\w{3}, ", said) and "2020" not in said and "Failed" not in said
    assert node in kubectl("get", "leases", "-n", "kube-node-lease")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pod.spec.nothing",), 'error: field "nothing" does not exist'),
        (("jobs",), 'the server doesn\'t have a resource type "jobs"'),
        (("pod", "--output=plaintext-openapiv2"), "couldn't find resource"),
    ],
    ids=["field", "kind", "version 2"],
)
def test_explain_of_what_is_not_there_is_a_clean_error(
    kubectl: Kubectl, arguments: tuple[str, ...], message: str
) -> None:
    said = kubectl.fails("explain", *arguments)
    assert message in said and "template" not in said and not PANIC.search(said)


def test_types_in_openapi_do_not_change_how_apply_merges(kubectl: Kubectl, namespace: str) -> None:
    """Two lists of one container: by name, as the types that kubectl was built with say."""
    base = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"},
        "spec": {"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}]},
    }  # fmt: skip
    kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(base))
    kubectl("patch", "service", "x", "-n", namespace, "-p", '{"spec":{"ports":[{"name":"c","port":82}]}}')
    base["spec"]["ports"].pop()  # type: ignore[index]
    kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(base))
    found = json.loads(kubectl("get", "service", "x", "-n", namespace, "-o", "json"))
    assert sorted(port["port"] for port in found["spec"]["ports"]) == [80, 82]


def test_helm_installs_upgrades_and_takes_back(
    helm: Kubectl, kubectl: Kubectl, cluster: Cluster, namespace: str, chart: str
) -> None:
    inside = ("-n", namespace)

    def state() -> tuple[int, str]:
        deployment = json.loads(kubectl("get", "deployment", "web", *inside, "-o", "json"))
        settings = json.loads(kubectl("get", "configmap", "web", *inside, "-o", "json"))
        return deployment["spec"]["replicas"], settings["data"]["colour"]

    def revisions() -> list[tuple[int, str]]:
        return [(r["revision"], r["status"]) for r in json.loads(helm("history", "web", *inside, "-o", "json"))]

    assert "STATUS: deployed" in helm("install", "web", chart, *inside)
    assert state() == (1, "blue")
    uid = json.loads(kubectl("get", "service", "web", *inside, "-o", "json"))["metadata"]["uid"]
    secret = json.loads(kubectl("get", "secret", "web", *inside, "-o", "json"))
    assert secret["data"] == {"key": "dmFsdWU="} and secret["metadata"]["labels"] == {
        "app.kubernetes.io/managed-by": "Helm"
    }
    kubectl("get", "serviceaccount", "web", *inside)
    assert "has been upgraded" in helm("upgrade", "web", chart, *inside, "--set", "replicas=3,colour=red")
    assert state() == (3, "red")
    (release,) = json.loads(helm("list", *inside, "-o", "json"))
    assert (release["name"], release["revision"], release["status"]) == ("web", "2", "deployed")
    assert revisions() == [(1, "superseded"), (2, "deployed")]
    assert "Rollback was a success" in helm("rollback", "web", "1", *inside)
    assert state() == (1, "blue")
    assert revisions()[-1] == (3, "deployed")
    assert json.loads(kubectl("get", "service", "web", *inside, "-o", "json"))["metadata"]["uid"] == uid
    assert 'release "web" uninstalled' in helm("uninstall", "web", *inside)
    for kind in ("deployment", "service", "configmap", "secret", "serviceaccount"):
        assert "NotFound" in kubectl.fails("get", kind, "web", *inside)
    assert json.loads(helm("list", "-a", *inside, "-o", "json")) == []


def test_helm_makes_the_namespace_and_renders_against_the_server(helm: Kubectl, kubectl: Kubectl, chart: str) -> None:
    name = f"t{os.urandom(4).hex()}"
    helm("install", "web", chart, "-n", name, "--create-namespace")
    assert kubectl("get", "deployment", "-n", name, "-o", "name") == "deployment.apps/web\n"
    assert "kind: Deployment" in helm("template", "other", chart, "-n", name, "--validate")
    helm("install", "other", chart, "-n", name, "--dry-run=server")
    assert kubectl("get", "deployment", "-n", name, "-o", "name") == "deployment.apps/web\n"
    helm("uninstall", "web", "-n", name)
    kubectl("delete", "namespace", name, "--wait=false")


def test_helm_hears_what_is_wrong_with_a_manifest(helm: Kubectl, namespace: str, chart: str) -> None:
    path = Path(chart) / "templates/settings.yaml"
    path.write_text(path.read_text() + "unknown: 1\n")
    done: subprocess.CompletedProcess[str] = helm.run("install", "web", chart, "-n", namespace)
    assert not PANIC.search(done.stderr) and "unknown" in done.stderr, done.stderr + done.stdout
