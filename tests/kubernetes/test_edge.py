"""Edge nodes of an unmodified cluster: its scheduler, controllers, admission and authorizers, two agents behind NAT, containers that run."""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any

import pytest

from tests.kit.cluster.site import ADDRESS, Site
from tests.kit.topology import until
from tests.kubernetes.workloads import eventually, gone, logs, pod, ready, runs, said, template, wait_ready, workload

pytestmark = pytest.mark.root

# The Node


def test_a_node_is_registered_as_a_kubelet_does_it(site: Site) -> None:
    nodes = {node["metadata"]["name"]: node for node in site.cluster.json("get", "nodes")["items"]}
    assert {"edge1", "edge2"} <= set(nodes)
    node = nodes["edge1"]
    labels = node["metadata"]["labels"]
    for label in ("node.kubernetes.io/edge", "node-role.kubernetes.io/edge", "node-role.kubernetes.io/agent"):
        assert labels[label] == ""
    assert labels["kubernetes.io/hostname"] == "edge1" and labels["kubernetes.io/arch"]
    status = node["status"]
    assert set(status["capacity"]) == set(status["allocatable"]) >= {"cpu", "memory", "pods"}
    assert {address["type"] for address in status["addresses"]} >= {"InternalIP", "Hostname"}
    assert status["addresses"][0] == {
        "type": "InternalIP",
        "address": ADDRESS,
    }  # the cloud's, with a port for each node
    ports = {nodes[name]["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"] for name in ("edge1", "edge2")}
    assert ports == {20250, 20251}
    assert status["nodeInfo"]["kubeletVersion"].startswith("v1.")
    cidrs = {
        nodes[name]["spec"]["podCIDR"] for name in ("edge1", "edge2")
    }  # of the cluster's allocator, and the agent's, too
    assert len(cidrs) == 2
    agent = json.loads((site.directory / "edge1/etc/kubeedge/node.json").read_text())
    assert agent["podCIDR"] == node["spec"]["podCIDR"]


def test_a_lease_is_renewed_while_the_node_is_attached(site: Site) -> None:
    def lease() -> dict[str, Any]:
        found: dict[str, Any] = site.cluster.json("get", "lease", "edge1", "-n", "kube-node-lease")
        return found

    first = lease()
    assert first["spec"]["holderIdentity"] == "edge1" and first["spec"]["leaseDurationSeconds"] == 40
    assert first["metadata"]["ownerReferences"][0]["kind"] == "Node"
    eventually(lambda: lease()["spec"]["renewTime"] > first["spec"]["renewTime"], "a renewal")


def test_what_others_write_on_a_node_stays(site: Site) -> None:
    site.cluster.kubectl("label", "node", "edge2", "rack=seven")
    site.cluster.kubectl("annotate", "node", "edge2", "owner=somebody")
    site.cluster.kubectl("taint", "node", "edge2", "dedicated=yes:NoSchedule")
    site.stop_agent("edge2")
    site.start_agent("edge2")  # it reports everything again
    before = site.cluster.json("get", "lease", "edge2", "-n", "kube-node-lease")["spec"]["renewTime"]

    def renewed() -> bool:
        return bool(site.cluster.json("get", "lease", "edge2", "-n", "kube-node-lease")["spec"]["renewTime"] > before)

    eventually(renewed, "attached again")
    node = site.cluster.json("get", "node", "edge2")
    assert node["metadata"]["labels"]["rack"] == "seven" and node["metadata"]["annotations"]["owner"] == "somebody"
    assert {"key": "dedicated", "value": "yes", "effect": "NoSchedule"} in node["spec"]["taints"]
    site.cluster.kubectl("taint", "node", "edge2", "dedicated-")


# The kubelet port


def test_kubectl_looks_into_a_pod_at_the_edge(site: Site) -> None:
    site.cluster.apply(pod("open", command="echo from the edge; exec sleep 100000"))
    wait_ready(site, "open")
    # Ready is about a process; what it prints passes through conmon, which may be a moment later
    eventually(
        lambda: site.cluster.kubectl("logs", "open", check=False) == "from the edge\n", "the log through the API server"
    )
    assert site.cluster.kubectl("exec", "open", "--", "sh", "-c", "echo inside") == "inside\n"

    def measured() -> list[str]:
        summary = json.loads(site.cluster.kubectl("get", "--raw", "/api/v1/nodes/edge1/proxy/stats/summary"))
        return [each["podRef"]["name"] for each in summary["pods"]]

    eventually(lambda: "open" in measured(), "the pod among those that are measured")
    site.cluster.kubectl("delete", "pod", "open")


_STATUS_OF = """
import http.client, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[1])
if len(sys.argv) > 6:
    context.load_cert_chain(sys.argv[6], sys.argv[7])
connection = http.client.HTTPSConnection(sys.argv[2], int(sys.argv[3]), context=context, timeout=30)
connection.request("GET", sys.argv[4], headers={"authorization": sys.argv[5]} if sys.argv[5] else {})
print(connection.getresponse().status)
"""


def test_the_cluster_decides_who_uses_a_kubelet_port(site: Site) -> None:
    """As at a kubelet: by a token, or by a certificate of the cluster."""
    cluster = site.cluster
    for name in ("scraper", "visitor"):
        cluster.kubectl("create", "serviceaccount", name)
    cluster.kubectl("create", "clusterrole", "scraper", "--verb=get", "--resource=nodes/metrics")
    cluster.kubectl(
        "create", "clusterrolebinding", "scraper", "--clusterrole=scraper", "--serviceaccount=default:scraper"
    )
    bearer = {name: "Bearer " + cluster.kubectl("create", "token", name).strip() for name in ("scraper", "visitor")}
    node = cluster.json("get", "node", "edge1")["status"]

    def status(path: str, authorization: str = "", *certificate: str) -> int:
        port = str(node["daemonEndpoints"]["kubeletEndpoint"]["Port"])
        arguments = [
            str(cluster.identities.kubelets.ca),
            node["addresses"][0]["address"],
            port,
            path,
            authorization,
        ]
        return int(site.cloud.run("/usr/bin/python3", "-c", _STATUS_OF, *arguments, *certificate))

    until(
        lambda: status("/metrics/resource", bearer["scraper"]) == 200,
        what="the role is known",
        interval=5.0,
    )
    assert status("/pods", bearer["scraper"]) == status("/metrics/resource", bearer["visitor"]) == 403
    assert status("/metrics/resource") == status("/metrics/resource", bearer["scraper"] + "x") == 401
    assert status("/metrics/resource", "Basic YTpi") == 401

    def by_certificate(user: str, *groups: str) -> int:
        issued = cluster.identities.cluster.issue(user, groups=groups, file=f"{user}-at-the-port")
        return status("/pods", "", str(issued.cert), str(issued.key))

    assert by_certificate("root", "system:masters") == 200 and by_certificate("jane", "developers") == 403


# Pods


def test_a_secret_is_there_because_a_pod_refers_to_it(site: Site) -> None:
    """The cloud's account may read no Secret at all (tests/kit/cluster/rights.py): what comes, the node itself may read."""
    for name, value in (("reader-used", "s3cret-one"), ("reader-other", "s3cret-two")):
        site.cluster.kubectl("create", "secret", "generic", name, f"--from-literal=key={value}")
    site.cluster.kubectl("create", "configmap", "page", "--from-literal=text=first")
    volumes = [{"name": "page", "configMap": {"name": "page"}}]
    user = pod("reader", command="echo $KEY; while :; do cat /page/text; echo; sleep 1; done", volumes=volumes)
    user["spec"]["containers"][0] |= {
        "env": [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "reader-used", "key": "key"}}}],
        "volumeMounts": [{"name": "page", "mountPath": "/page"}],
    }
    site.cluster.apply(user)
    wait_ready(site, "reader")
    eventually(lambda: "s3cret-one" in logs(site, "edge1", "reader"), "the Secret in the container")
    site.cluster.kubectl("patch", "configmap", "page", "-p", '{"data": {"text": "second"}}')
    eventually(lambda: "second" in logs(site, "edge1", "reader"), "the changed ConfigMap in the container")
    site.cluster.kubectl("delete", "pod", "reader", timeout=150)


def test_a_pod_has_a_token_of_the_cluster_asked_for_by_its_node(site: Site) -> None:
    where = "/var/run/secrets/kubernetes.io/serviceaccount"
    site.cluster.apply(pod("tokens", "edge1", f"echo token $(cat {where}/token) end; exec sleep 100000"))
    found = wait_ready(site, "tokens")
    eventually(lambda: token_in(logs(site, "edge1", "tokens")) != "", "the token in its log")
    token = token_in(logs(site, "edge1", "tokens"))
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
    answer = json.loads(site.cluster.kubectl("create", "-f", "-", "-o", "json", input=json.dumps(review)))
    user = answer["status"]["user"]
    assert answer["status"]["authenticated"] is True and user["username"] == "system:serviceaccount:default:default"
    extra = {key.removeprefix("authentication.kubernetes.io/"): value for key, value in user["extra"].items()}
    assert extra["pod-name"] == ["tokens"] and extra["pod-uid"] == [found["metadata"]["uid"]]
    assert extra["node-name"] == ["edge1"]
    gone_with_it(site, "tokens", review)


def token_in(text: str) -> str:
    """What the pod has written between two words."""
    found = re.search(r"token (\S+) end", text)
    return found[1] if found else ""


def gone_with_it(site: Site, name: str, review: dict[str, Any]) -> None:
    """The token ends with its pod."""
    site.cluster.kubectl("delete", "pod", name, "--wait=true", "--timeout=120s", timeout=150)

    def is_refused() -> bool:
        answer = json.loads(site.cluster.kubectl("create", "-f", "-", "-o", "json", input=json.dumps(review)))
        return not answer["status"].get("authenticated")

    eventually(is_refused, "the token ends")


def test_a_deployment_is_rolled_out_and_scaled(site: Site) -> None:
    site.cluster.apply(workload("Deployment", "web", 3))
    site.cluster.kubectl("rollout", "status", "deployment/web", "--timeout=120s", timeout=150)
    site.cluster.kubectl("set", "env", "deployment/web", "A=b")
    site.cluster.kubectl("rollout", "status", "deployment/web", "--timeout=120s", timeout=150)
    site.cluster.kubectl("scale", "deployment/web", "--replicas=1")
    eventually(lambda: len(site.cluster.json("get", "pods", "-l", "app=web")["items"]) == 1, "one pod")

    def counted() -> bool:
        found = site.cluster.json("get", "deployment", "web")["status"]
        return bool(found.get("availableReplicas") == 1 and found["observedGeneration"] >= 3)

    eventually(counted, "a status that has counted again")
    site.cluster.kubectl("delete", "deployment", "web")
    eventually(lambda: not site.cluster.json("get", "pods", "-l", "app=web")["items"], "no pod")


def test_jobs_end_and_cronjobs_make_jobs(site: Site) -> None:
    good = template("job", "echo done", restartPolicy="Never")
    bad = template("bad", "exit 3", restartPolicy="Never")
    site.cluster.apply(
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "good"},
         "spec": {"completions": 3, "parallelism": 3, "template": good}},
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "bad"},
         "spec": {"backoffLimit": 0, "template": bad}},
        {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "tick"},
         "spec": {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": good}}}},
    )  # fmt: skip
    site.cluster.kubectl("create", "job", "--from=cronjob/tick", "now")
    for name in ("good", "now"):
        site.cluster.kubectl("wait", "--for=condition=Complete", f"job/{name}", "--timeout=120s", timeout=150)
    site.cluster.kubectl("wait", "--for=condition=Failed", "job/bad", "--timeout=120s", timeout=150)
    (failed,) = site.cluster.json("get", "pods", "-l", "job-name=bad")["items"]
    assert failed["status"]["phase"] == "Failed"
    assert failed["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 3
    site.cluster.kubectl("delete", "jobs,cronjobs", "--all", timeout=150)


def test_a_statefulset_and_a_daemonset_are_everywhere_that_they_should_be(site: Site) -> None:
    site.cluster.apply(workload("StatefulSet", "db", 2, serviceName="db"), workload("DaemonSet", "agent"))
    for name in ("statefulset/db", "daemonset/agent"):
        site.cluster.kubectl("rollout", "status", name, "--timeout=120s", timeout=150)
    items = site.cluster.json("get", "pods", "-l", "app=agent")["items"]
    assert {item["spec"]["nodeName"] for item in items} == {"edge1", "edge2"}
    assert {p["metadata"]["name"] for p in site.cluster.json("get", "pods", "-l", "app=db")["items"]} == {
        "db-0",
        "db-1",
    }
    site.cluster.kubectl("delete", "statefulset/db", "daemonset/agent", timeout=150)


def test_a_pod_ends_with_grace_and_waits_for_its_finalizers(site: Site) -> None:
    command = "trap 'echo ending; sleep 1; exit 0' TERM; echo up; while :; do sleep 0.1; done"
    mortal = pod("mortal", command=command, terminationGracePeriodSeconds=20)
    mortal["metadata"]["finalizers"] = ["example.com/wait"]
    site.cluster.apply(mortal)
    wait_ready(site, "mortal")
    eventually(lambda: "up" in logs(site, "edge1", "mortal"), "the trap is set")
    site.cluster.kubectl("delete", "pod", "mortal", "--wait=false")

    def ended() -> bool:
        state = site.cluster.json("get", "pod", "mortal")["status"]["containerStatuses"][0]["state"]
        return bool("terminated" in state and state["terminated"]["exitCode"] == 0)

    eventually(ended, "the container's own end")
    assert site.cluster.json("get", "pod", "mortal")["metadata"]["deletionTimestamp"]
    site.cluster.kubectl("patch", "pod", "mortal", "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
    gone(site, "pod", "mortal")


def test_an_eviction_respects_the_budget(site: Site) -> None:
    site.cluster.apply(
        workload("Deployment", "shop", 1),
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "shop"},
         "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "shop"}}}},
    )  # fmt: skip
    site.cluster.kubectl("rollout", "status", "deployment/shop", "--timeout=120s", timeout=150)
    (found,) = site.cluster.json("get", "pods", "-l", "app=shop")["items"]
    name = found["metadata"]["name"]
    eventually(
        lambda: site.cluster.json("get", "pdb", "shop")["status"].get("currentHealthy") == 1, "the budget counted"
    )
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": "default"}}
    path = f"/api/v1/namespaces/default/pods/{name}/eviction"
    with pytest.raises(RuntimeError, match="disruption budget"):
        site.cluster.kubectl("create", "--raw", path, "-f", "-", input=json.dumps(eviction))
    site.cluster.kubectl("delete", "pdb", "shop")

    def evicted() -> bool:
        with contextlib.suppress(RuntimeError):
            site.cluster.kubectl("create", "--raw", path, "-f", "-", input=json.dumps(eviction))
            return True
        return False

    eventually(evicted, "the eviction")
    gone(site, "pod", name)
    site.cluster.kubectl("delete", "deployment", "shop")


# What goes wrong


def test_an_api_server_that_is_away_stops_nothing(site: Site) -> None:
    site.cluster.apply(pod("steady", command="exec sleep 77123"))
    before = wait_ready(site, "steady")["metadata"]["uid"]
    site.cluster.kill("kube-apiserver")
    assert runs(site, "edge1", b"77123")
    site.cluster.start_part("kube-apiserver")
    site.cluster.wait()
    site.cluster.apply(pod("after"))
    wait_ready(site, "after")
    assert site.cluster.json("get", "pod", "steady")["metadata"]["uid"] == before and runs(site, "edge1", b"77123")
    site.cluster.kubectl("delete", "pod", "steady", timeout=150)
    site.cluster.kubectl("delete", "pod", "after", timeout=150)


def test_a_cloud_that_restarts_takes_nothing_away(site: Site) -> None:
    site.cluster.kubectl("create", "configmap", "held", "--from-literal=a=b")
    user = pod("holder", command="exec sleep 77124", volumes=[{"name": "v", "configMap": {"name": "held"}}])
    site.cluster.apply(user)
    uid = wait_ready(site, "holder")["metadata"]["uid"]
    site.stop_cloud()
    site.start_cloud([f"default={site.kubeconfig()}"])
    site.cluster.kubectl("patch", "configmap", "held", "-p", '{"data": {"a": "c"}}')
    eventually(
        lambda: site.cluster.json("get", "node", "edge1")["status"]["conditions"][-1]["status"] == "True", "ready"
    )
    found = site.cluster.json("get", "pod", "holder")
    assert found["metadata"]["uid"] == uid and found["status"]["containerStatuses"][0]["restartCount"] == 0
    site.cluster.kubectl("delete", "pod", "holder", timeout=150)


def test_a_node_that_is_away_is_found_by_the_cluster_and_its_pods_go_on(site: Site) -> None:
    site.cluster.apply(pod("offline", command="exec sleep 77125"))
    uid = wait_ready(site, "offline")["metadata"]["uid"]
    site.nats["edge1"].cut()
    try:
        eventually(lambda: ready(site, "edge1") == "Unknown", "NotReady, by the cluster's own controller")

        def tainted() -> bool:
            taints = site.cluster.json("get", "node", "edge1")["spec"].get("taints") or []
            return any(taint["key"] == "node.kubernetes.io/unreachable" for taint in taints)

        eventually(tainted, "the taint, which the controller writes after that")
        assert runs(site, "edge1", b"77125")
    finally:
        site.nats["edge1"].heal()
    eventually(lambda: ready(site, "edge1") == "True", "Ready again")
    eventually(lambda: not site.cluster.json("get", "node", "edge1")["spec"].get("taints"), "without taints")
    assert wait_ready(site, "offline")["metadata"]["uid"] == uid

    def unknown() -> list[str]:
        conditions = site.cluster.json("get", "node", "edge1")["status"]["conditions"]
        return [condition["type"] for condition in conditions if condition["status"] == "Unknown"]

    eventually(lambda: unknown() == [], "all conditions are known again")
    site.cluster.kubectl("delete", "pod", "offline", timeout=150)


def test_the_name_of_a_kubelets_node_is_not_ours_to_take(site: Site) -> None:
    theirs = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "worker", "labels": {"made-by": "kubelet"}}}
    site.cluster.apply(theirs)
    site.edges["worker"] = site.edges["edge2"]
    try:
        with pytest.raises(RuntimeError, match="not one of this cloud's: choose another name"):
            site.join("worker")
    finally:
        del site.edges["worker"]
    assert "worker" not in site.admin("node", "list")
    found = site.cluster.json("get", "node", "worker")
    assert "kubeedge.io/managed" not in found["metadata"]["annotations"]
    site.cluster.kubectl("delete", "node", "worker")


def test_a_node_that_is_deleted_leaves_the_network_and_comes_back_by_joining(site: Site) -> None:
    site.cluster.kubectl("delete", "node", "edge2", timeout=150)
    eventually(lambda: "edge2" not in site.admin("node", "list"), "removed from the network")
    log = site.directory / "edge2.log"
    eventually(lambda: "node edge2 is not known; join it again" in log.read_text(), "the agent says why")
    assert "NotFound" in said(site, "node", "edge2")
    site.reset("edge2")
    site.join("edge2")
    site.cluster.kubectl("wait", "--for=condition=Ready", "node/edge2", "--timeout=120s", timeout=150)
    site.cluster.apply(pod("again", "edge2"))
    wait_ready(site, "again")
    site.cluster.kubectl("delete", "pod", "again", timeout=150)
