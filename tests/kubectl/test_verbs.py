"""Everything that the demo and its users do with kubectl, with the real one."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from kubeedge.api.names import TenantId
from kubeedge.api.resources import DEPLOYMENTS, EVENTS, NODES, PODS
from kubeedge.apiserver.core import DeleteOptions
from kubeedge.errors import NotFound
from kubeedge.pki.identity import UserIdentity
from tests.kubectl.conftest import Cluster, Kubectl, node_identity

MANIFEST = """
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: blue, size: small}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  labels: {app: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: busybox:1
        command: [httpd, -f]
        env: [{name: COLOUR, value: blue}, {name: SIZE, value: small}]
        ports: [{containerPort: 8080}]
        resources: {limits: {cpu: 500m, memory: 32Mi}}
        volumeMounts: [{name: settings, mountPath: /etc/settings}]
      volumes:
      - name: settings
        configMap: {name: settings}
---
apiVersion: v1
kind: Service
metadata: {name: web, annotations: {kubeedge.io/publish: web}}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
"""


def poll(condition: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.05)
    return found


def pod(name: str, node: str = "", **labels: str) -> dict[str, Any]:
    spec: dict[str, Any] = {"containers": [{"name": "main", "image": "busybox:1"}]}
    if node:
        spec["nodeName"] = node
    return {"metadata": {"name": name, "labels": labels}, "spec": spec}


def running(ip: str = "10.244.1.2") -> dict[str, Any]:
    return {
        "phase": "Running",
        "podIP": ip,
        "podIPs": [{"ip": ip}],
        "hostIP": "100.64.0.1",
        "startTime": "2026-11-23T00:00:00Z",
        "conditions": [{"type": kind, "status": "True"} for kind in ("Initialized", "Ready", "ContainersReady")],
        "containerStatuses": [
            {
                "name": "main",
                "image": "busybox:1",
                "imageID": "sha256:0",
                "containerID": "crun://1",
                "ready": True,
                "started": True,
                "restartCount": 0,
                "state": {"running": {"startedAt": "2026-11-23T00:00:01Z"}},
            }
        ],
    }


def start_pod(cluster: Cluster, namespace: str, name: str, node: str = "edge1", **labels: str) -> None:
    cluster.call(cluster.registry.create(PODS, namespace, pod(name, node, **labels)))
    cluster.call(cluster.registry.merge_patch(PODS, namespace, name, {"status": running()}, subresource="status"))


def columns(text: str) -> list[list[str]]:
    return [line.split() for line in text.strip().splitlines()]


def test_apply_creates_then_changes_nothing_then_changes(kubectl: Kubectl, namespace: str) -> None:
    first = kubectl("apply", "-n", namespace, "-f", "-", stdin=MANIFEST)
    assert first.split("\n")[:3] == ["configmap/settings created", "deployment.apps/web created", "service/web created"]
    again = kubectl("apply", "-n", namespace, "-f", "-", stdin=MANIFEST)
    assert again.count("unchanged") == 3, again
    changed = MANIFEST.replace("replicas: 2", "replicas: 3").replace("colour: blue,", "colour: red,")
    third = kubectl("apply", "-n", namespace, "-f", "-", stdin=changed)
    assert third.count("configured") == 2 and third.count("unchanged") == 1, third
    assert kubectl("get", "deploy", "web", "-n", namespace, "-o", "jsonpath={.spec.replicas}") == "3"


def test_apply_takes_away_what_the_manifest_no_longer_has(kubectl: Kubectl, namespace: str) -> None:
    kubectl("apply", "-n", namespace, "-f", "-", stdin=MANIFEST)
    kubectl("set", "env", "deploy/web", "-n", namespace, "ADDED=by-hand")
    smaller = MANIFEST.replace(", {name: SIZE, value: small}", "").replace(", size: small", "")
    smaller = smaller.replace("        resources: {limits: {cpu: 500m, memory: 32Mi}}\n", "")
    kubectl("apply", "-n", namespace, "-f", "-", stdin=smaller)
    found = json.loads(kubectl("get", "deploy", "web", "-n", namespace, "-o", "json"))
    container = found["spec"]["template"]["spec"]["containers"][0]
    assert [v["name"] for v in container["env"]] == ["COLOUR", "ADDED"], "what others added stays"
    assert "limits" not in container["resources"]
    settings = json.loads(kubectl("get", "cm", "settings", "-n", namespace, "-o", "json"))
    assert settings["data"] == {"colour": "blue"}


def test_diff_and_server_side_dry_run(kubectl: Kubectl, namespace: str) -> None:
    kubectl("apply", "-n", namespace, "-f", "-", stdin=MANIFEST)
    changed = MANIFEST.replace("replicas: 2", "replicas: 3")
    assert "configured (server dry run)" in kubectl(
        "apply", "-n", namespace, "--dry-run=server", "-f", "-", stdin=changed
    )
    done = kubectl.run("diff", "-n", namespace, "-f", "-", stdin=changed)
    assert done.returncode == 1 and "+  replicas: 3" in done.stdout, done.stdout + done.stderr
    assert kubectl("get", "deploy", "web", "-n", namespace, "-o", "jsonpath={.spec.replicas}") == "2"


def test_server_side_apply_creates_and_merges(kubectl: Kubectl, namespace: str) -> None:
    arguments = ("apply", "--server-side", "-n", namespace, "-f", "-")
    assert kubectl(*arguments, stdin=MANIFEST).count("serverside-applied") == 3
    kubectl(*arguments, stdin=MANIFEST.replace("replicas: 2", "replicas: 4"))
    assert kubectl("get", "deploy", "web", "-n", namespace, "-o", "jsonpath={.spec.replicas}") == "4"


def test_get_in_every_form(kubectl: Kubectl, cluster: Cluster, namespace: str) -> None:
    start_pod(cluster, namespace, "one", app="x")
    table = columns(kubectl("get", "pods", "-n", namespace))
    assert table[0] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert table[1][:4] == ["one", "1/1", "Running", "0"]
    wide = columns(kubectl("get", "pods", "-n", namespace, "-o", "wide"))
    assert wide[0][5:7] == ["IP", "NODE"] and wide[1][5:7] == ["10.244.1.2", "edge1"]
    assert kubectl("get", "po", "-n", namespace, "-o", "name") == "pod/one\n"
    assert json.loads(kubectl("get", "po", "one", "-n", namespace, "-o", "json"))["kind"] == "Pod"
    listed = json.loads(kubectl("get", "po", "-n", namespace, "-o", "json"))
    assert listed["kind"] == "List" and listed["items"][0]["kind"] == "Pod"
    assert "podIP: 10.244.1.2" in kubectl("get", "po", "-n", namespace, "-o", "yaml")
    assert kubectl("get", "po", "-n", namespace, "-o", "custom-columns=N:.metadata.name", "--no-headers") == "one\n"
    assert columns(kubectl("get", "po", "-A"))[0][0] == "NAMESPACE"
    assert "app=x" in kubectl("get", "po", "-n", namespace, "--show-labels")
    assert "pod/one" in kubectl("get", "all", "-n", namespace)
    assert kubectl("get", "po", "-n", namespace, "--sort-by=.metadata.name").startswith("NAME")
    assert kubectl("get", "po", "-n", namespace, "--chunk-size=1").startswith("NAME")
    assert 'pods "two" not found' in kubectl.fails("get", "po", "two", "-n", namespace)
    assert "doesn't have a resource type" in kubectl.fails("get", "flowers")


def test_get_selects_by_label_and_field(kubectl: Kubectl, cluster: Cluster, namespace: str) -> None:
    start_pod(cluster, namespace, "one", tier="front")
    start_pod(cluster, namespace, "two", node="edge2", tier="back")

    def names(*selector: str) -> str:
        return kubectl("get", "po", "-n", namespace, "-o", "name", *selector).replace("pod/", "").replace("\n", " ")

    assert names("-l", "tier=front") == "one "
    assert names("-l", "tier in (front,back),tier!=front") == "two "
    assert names("--field-selector", "spec.nodeName=edge2") == "two "
    assert names("--field-selector", "status.phase=Running,metadata.name!=two") == "one "
    assert "field label not supported" in kubectl.fails("get", "po", "--field-selector", "spec.nope=1")
    assert "unable to parse requirement" in kubectl.fails("get", "po", "-l", "a in b")


def test_get_pages_through_long_lists(kubectl: Kubectl, cluster: Cluster, namespace: str) -> None:
    for number in range(7):
        cluster.call(cluster.registry.create(PODS, namespace, pod(f"p{number}")))
    found = kubectl("get", "po", "-n", namespace, "--chunk-size=3", "--no-headers")
    assert [row[0] for row in columns(found)] == [f"p{number}" for number in range(7)]


def test_get_watch_shows_changes_as_they_come(kubectl: Kubectl, cluster: Cluster, namespace: str) -> None:
    cluster.call(cluster.registry.create(PODS, namespace, pod("one")))
    with kubectl.started("get", "pods", "-n", namespace, "-w") as process:
        lines: list[str] = []
        assert process.stdout is not None
        reader = threading.Thread(target=lambda: lines.extend(iter(process.stdout.readline, "")))  # type: ignore[union-attr]
        reader.start()
        try:
            poll(lambda: len(lines) >= 2)
            cluster.call(cluster.registry.bind(namespace, "one", "edge1"))
            poll(lambda: len(lines) >= 3)
            cluster.call(
                cluster.registry.merge_patch(PODS, namespace, "one", {"status": running()}, subresource="status")
            )
            poll(lambda: any("Running" in line for line in lines))
            cluster.call(cluster.registry.delete(PODS, namespace, "one"))
            poll(lambda: any("Terminating" in line for line in lines))
        finally:
            process.kill()
            reader.join(60)
    assert sum("NAME" in line for line in lines) == 1, lines


def test_describe_pod_node_and_deployment(kubectl: Kubectl, cluster: Cluster, namespace: str) -> None:
    kubectl("apply", "-n", namespace, "-f", "-", stdin=MANIFEST)
    start_pod(cluster, namespace, "one")
    node = {
        "metadata": {"name": "edge1", "labels": {"node-role.kubernetes.io/edge": ""}},
        "spec": {"podCIDR": "10.244.1.0/24"},
        "status": {
            "capacity": {"cpu": "2", "memory": "512Mi", "pods": "110"},
            "allocatable": {"cpu": "2", "memory": "500Mi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "attached"}],
            "addresses": [{"type": "InternalIP", "address": "100.64.0.1"}],
            "nodeInfo": {
                "kubeletVersion": "v1.30.0-kubeedge",
                "osImage": "Debian",
                "kernelVersion": "6.1",
                "containerRuntimeVersion": "crun://1.8",
            },
        },
    }
    try:
        cluster.call(cluster.registry.create(NODES, "", node))
    except Exception as exc:
        assert "already exists" in str(exc)
    uid = cluster.call(cluster.registry.get(PODS, namespace, "one"))["metadata"]["uid"]
    event = {
        "metadata": {"name": "one.1"},
        "involvedObject": {"kind": "Pod", "namespace": namespace, "name": "one", "uid": uid},
        "reason": "Started",
        "message": "Started container main",
        "type": "Normal",
        "count": 3,
        "firstTimestamp": "2026-11-23T00:00:00Z",
        "lastTimestamp": "2026-11-23T00:01:00Z",
        "source": {"component": "kubelet", "host": "edge1"},
    }
    cluster.call(cluster.registry.create(EVENTS, namespace, event))
    text = kubectl("describe", "pod", "one", "-n", namespace)
    for part in ("edge1", "10.244.1.2", "Running", "busybox:1", "Started container main", "BestEffort"):
        assert part in text, text
    text = kubectl("describe", "node", "edge1")
    for part in ("edge", "100.64.0.1", "KubeletReady", "one", "Allocated resources", "512Mi"):
        assert part in text, text
    text = kubectl("describe", "deployment", "web", "-n", namespace)
    for part in ("RollingUpdate", "25% max unavailable", "/etc/settings", "500m"):
        assert part in text, text
    assert "Published" not in kubectl("describe", "svc,cm", "-n", namespace)
    events = kubectl("get", "events", "-n", namespace)
    assert "pod/one" in events and "Started container main" in events and "x3 over" in events
    nodes = columns(kubectl("get", "nodes", "-o", "wide"))
    assert nodes[0][:5] == ["NAME", "STATUS", "ROLES", "AGE", "VERSION"]
    assert nodes[1][:3] == ["edge1", "Ready", "edge"] and "100.64.0.1" in nodes[1]


def test_create_label_annotate_and_patch(kubectl: Kubectl, namespace: str) -> None:
    assert kubectl("create", "deployment", "d", "--image=busybox:1", "-n", namespace) == "deployment.apps/d created\n"
    kubectl("create", "configmap", "c", "--from-literal=a=1", "-n", namespace)
    kubectl("create", "secret", "generic", "s", "--from-literal=key=value", "-n", namespace)
    assert kubectl("get", "secret", "s", "-n", namespace, "-o", "jsonpath={.data.key}") == "dmFsdWU="
    kubectl("create", "service", "clusterip", "svc", "--tcp=80:8080", "-n", namespace)
    kubectl("create", "serviceaccount", "sa", "-n", namespace)
    assert "already exists" in kubectl.fails("create", "configmap", "c", "-n", namespace)
    kubectl("label", "cm", "c", "tier=front", "-n", namespace)
    assert "--overwrite is false" in kubectl.fails("label", "cm", "c", "tier=back", "-n", namespace)
    kubectl("label", "cm", "c", "tier=back", "--overwrite", "-n", namespace)
    kubectl("annotate", "cm", "c", "note=hello", "-n", namespace)
    kubectl("label", "cm", "c", "tier-", "-n", namespace)
    found = json.loads(kubectl("get", "cm", "c", "-n", namespace, "-o", "json"))
    assert "labels" not in found["metadata"] and found["metadata"]["annotations"] == {"note": "hello"}

    strategic = '{"spec":{"template":{"spec":{"containers":[{"name":"busybox","env":[{"name":"A","value":"1"}]}]}}}}'
    kubectl("patch", "deploy", "d", "-n", namespace, "-p", strategic)
    kubectl("patch", "deploy", "d", "-n", namespace, "--type=merge", "-p", '{"spec":{"replicas":4}}')
    operations = '[{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"busybox:2"}]'
    kubectl("patch", "deploy", "d", "-n", namespace, "--type=json", "-p", operations)
    spec = json.loads(kubectl("get", "deploy", "d", "-n", namespace, "-o", "json"))["spec"]
    container = spec["template"]["spec"]["containers"][0]
    assert (spec["replicas"], container["image"], container["env"]) == (4, "busybox:2", [{"name": "A", "value": "1"}])
    kubectl("set", "image", "deploy/d", "busybox=busybox:3", "-n", namespace)
    assert "testing the value failed" in kubectl.fails(
        "patch",
        "deploy",
        "d",
        "-n",
        namespace,
        "--type=json",
        "-p",
        '[{"op":"test","path":"/spec/replicas","value":9}]',
    )


def test_a_bad_manifest_is_refused_with_its_fields(kubectl: Kubectl, namespace: str) -> None:
    wrong = MANIFEST.replace("image: busybox:1", "imagePullPolicy: Maybe").replace(
        "app: web}}\n  template", "app: x}}\n  template"
    )
    error = kubectl.fails("apply", "-n", namespace, "-f", "-", stdin=wrong)
    assert 'The Deployment "web" is invalid' in error
    for part in (
        "spec.template.spec.containers[0].image: Required value",
        "`selector` does not match template `labels`",
    ):
        assert part in error, error
    nowhere = kubectl.fails("create", "configmap", "c", "-n", "nowhere")
    assert 'namespaces "nowhere" not found' in nowhere


def test_a_field_that_does_not_exist_is_named(kubectl: Kubectl, namespace: str) -> None:
    wrong = MANIFEST.replace("replicas: 2", "replicaz: 2")
    done = kubectl.run("apply", "-n", namespace, "-f", "-", stdin=wrong)
    assert 'unknown field "spec.replicaz"' in done.stderr, done.stderr


def test_scale_and_rollout_status(kubectl: Kubectl, cluster: Cluster, namespace: str) -> None:
    kubectl("create", "deployment", "d", "--image=busybox:1", "-n", namespace)
    assert "scaled" in kubectl("scale", "deploy/d", "--replicas=3", "-n", namespace)
    found = cluster.call(cluster.registry.get(DEPLOYMENTS, namespace, "d"))
    assert found["spec"]["replicas"] == 3 and found["metadata"]["generation"] == 2
    with kubectl.started("rollout", "status", "deploy/d", "-n", namespace) as process:
        status = {
            "observedGeneration": 2,
            "replicas": 3,
            "updatedReplicas": 3,
            "readyReplicas": 1,
            "availableReplicas": 1,
        }
        cluster.call(
            cluster.registry.merge_patch(DEPLOYMENTS, namespace, "d", {"status": status}, subresource="status")
        )
        status |= {"readyReplicas": 3, "availableReplicas": 3}
        cluster.call(
            cluster.registry.merge_patch(DEPLOYMENTS, namespace, "d", {"status": status}, subresource="status")
        )
        output, _ = process.communicate(timeout=90)
        assert process.returncode == 0 and "successfully rolled out" in output, output
    kubectl("rollout", "restart", "deploy/d", "-n", namespace)
    kubectl("rollout", "pause", "deploy/d", "-n", namespace)
    kubectl("rollout", "resume", "deploy/d", "-n", namespace)
    assert cluster.call(cluster.registry.get(DEPLOYMENTS, namespace, "d"))["metadata"]["generation"] == 5
    assert kubectl("get", "deploy", "d", "-n", namespace, "--no-headers").split()[1] == "3/3"


def test_delete_waits_until_the_node_has_stopped_the_pod(kubectl: Kubectl, cluster: Cluster, namespace: str) -> None:
    start_pod(cluster, namespace, "one")
    with kubectl.started("delete", "pod", "one", "-n", namespace) as process:
        registry = cluster.registry
        poll(lambda: cluster.call(registry.get(PODS, namespace, "one"))["metadata"].get("deletionTimestamp"))
        assert columns(kubectl("get", "po", "-n", namespace))[1][2] == "Terminating"
        assert process.poll() is None, "kubectl waits"
        cluster.call(registry.delete(PODS, namespace, "one", grace_period=0))
        output, _ = process.communicate(timeout=90)
        assert process.returncode == 0 and 'pod "one" deleted' in output


def test_delete_in_its_other_forms(kubectl: Kubectl, cluster: Cluster, namespace: str) -> None:
    kubectl("apply", "-n", namespace, "-f", "-", stdin=MANIFEST)
    assert kubectl("delete", "-n", namespace, "-f", "-", stdin=MANIFEST).count("deleted") == 3
    start_pod(cluster, namespace, "one", app="x")
    kubectl.run("delete", "pod", "one", "-n", namespace, "--grace-period=0", "--force")
    with pytest.raises(NotFound):
        cluster.call(cluster.registry.get(PODS, namespace, "one"))
    kubectl("create", "configmap", "c", "-n", namespace)
    kubectl("label", "cm", "c", "go=yes", "-n", namespace)
    assert 'configmap "c" deleted' in kubectl("delete", "cm", "-l", "go=yes", "-n", namespace)
    assert 'configmaps "c" not found' in kubectl.fails("delete", "cm", "c", "-n", namespace)
    kubectl("delete", "cm", "c", "-n", namespace, "--ignore-not-found")
    kubectl("create", "configmap", "c", "-n", namespace)
    kubectl("delete", "cm", "--all", "-n", namespace)


def test_replace_and_wait(kubectl: Kubectl, cluster: Cluster, namespace: str) -> None:
    kubectl("create", "-n", namespace, "-f", "-", stdin=MANIFEST)
    kubectl("replace", "-n", namespace, "-f", "-", stdin=MANIFEST.replace("replicas: 2", "replicas: 5"))
    assert kubectl("get", "deploy", "web", "-n", namespace, "-o", "jsonpath={.spec.replicas}") == "5"
    start_pod(cluster, namespace, "one")
    assert "condition met" in kubectl("wait", "--for=condition=Ready", "pod/one", "-n", namespace, "--timeout=60s")
    poll(lambda: not cluster.server.open_watches(TenantId("a")))  # of clients that have left
    with kubectl.started("wait", "--for=delete", "pod/one", "-n", namespace, "--timeout=60s") as process:
        # A kubectl that finds nothing to wait for is an error in old versions: the pod goes while it waits.
        poll(lambda: cluster.server.open_watches(TenantId("a")))
        cluster.call(cluster.registry.delete_object(PODS, namespace, "one", DeleteOptions(grace_period=0)))
        output, _ = process.communicate(timeout=90)
        assert process.returncode == 0, output


def test_nodes_are_cordoned_and_tainted(kubectl: Kubectl, cluster: Cluster) -> None:
    cluster.call(cluster.registry.delete_collection(NODES, "", DeleteOptions()))
    cluster.call(cluster.registry.create(NODES, "", {"metadata": {"name": "edge9"}}))
    kubectl("cordon", "edge9")
    assert columns(kubectl("get", "nodes"))[1][1] == "Unknown,SchedulingDisabled"
    kubectl("uncordon", "edge9")
    kubectl("taint", "nodes", "edge9", "key=value:NoSchedule")
    assert cluster.call(cluster.registry.get(NODES, "", "edge9"))["spec"]["taints"][0]["key"] == "key"
    kubectl("label", "node", "edge9", "node-role.kubernetes.io/edge=")
    assert columns(kubectl("get", "nodes"))[1][2] == "edge"
    kubectl("delete", "node", "edge9")


def test_logs_come_from_the_node_and_follow(kubectl: Kubectl, cluster: Cluster, namespace: str) -> None:
    start_pod(cluster, namespace, "one")
    start_pod(cluster, namespace, "far", node="edge7")
    cluster.node.targets.clear()
    assert kubectl("logs", "one", "-n", namespace) == "line 0\nline 1\nline 2\n"
    assert kubectl("logs", "-f", "one", "-c", "main", "--tail=5", "--timestamps", "-n", namespace).endswith("line 2\n")
    assert cluster.node.targets[0] == f"/containerLogs/{namespace}/one/main"
    assert "follow=true" in cluster.node.targets[1] and "tailLines=5" in cluster.node.targets[1]
    assert "container nope is not valid for pod one" in kubectl.fails("logs", "one", "-c", "nope", "-n", namespace)
    error = kubectl.fails("logs", "far", "-n", namespace)
    assert "node edge7 cannot be reached: no KubeBus link to edge7" in error, error


def test_exec_shows_what_a_node_says_that_does_not_upgrade(kubectl: Kubectl, cluster: Cluster, namespace: str) -> None:
    start_pod(cluster, namespace, "one")
    assert "line 0" in kubectl.fails(
        "exec", "one", "-n", namespace, "--", "true"
    )  # exec itself: tests/netns/test_streams.py


def test_what_the_server_offers(kubectl: Kubectl) -> None:
    resources = kubectl("api-resources", "-o", "wide")
    assert "deployments" in resources and "deploy" in resources and "daemonsets" in resources
    assert kubectl("api-versions").split() == [
        "apps/v1",
        "coordination.k8s.io/v1",
        "discovery.k8s.io/v1",
        "metrics.k8s.io/v1beta1",
        "networking.k8s.io/v1",
        "policy/v1",
        "v1",
    ]
    assert "v1.30" in kubectl.run("version").stdout
    assert kubectl("get", "--raw", "/readyz") == "ok"
    assert "kubernetes" in kubectl.run("cluster-info").stdout.lower()


def test_two_tenants_have_the_same_names_and_nothing_in_common(
    kubectl: Kubectl, cluster: Cluster, namespace: str
) -> None:
    other = cluster.kubectl(kubectl.binary, "b")
    other("create", "namespace", namespace)
    kubectl("create", "configmap", "same", "--from-literal=owner=a", "-n", namespace)
    assert "NotFound" in other.fails("get", "cm", "same", "-n", namespace)
    other("create", "configmap", "same", "--from-literal=owner=b", "-n", namespace)
    kubectl("create", "configmap", "ours", "-n", namespace)
    assert kubectl("get", "cm", "same", "-n", namespace, "-o", "jsonpath={.data.owner}") == "a"
    assert other("get", "cm", "-n", namespace, "-o", "name") == "configmap/same\n"
    other("delete", "cm", "--all", "-n", namespace)
    assert kubectl("get", "cm", "-n", namespace, "-o", "name") == "configmap/ours\nconfigmap/same\n"
    with pytest.raises(NotFound):
        cluster.call(cluster.registries[TenantId("b")].get(PODS, namespace, "one"))
    other("delete", "namespace", namespace)


def test_nodes_and_unknown_tenants_are_turned_away(kubectl: Kubectl, cluster: Cluster) -> None:
    as_node = cluster.kubectl(kubectl.binary, uri=node_identity())
    assert "is not a user of a cluster's API" in as_node.fails("get", "--raw", "/api/v1/pods")
    foreign = cluster.kubectl(kubectl.binary, uri=UserIdentity(TenantId("nobody"), "admin").uri)
    assert "tenant nobody does not exist" in foreign.fails("get", "--raw", "/api/v1/pods")
