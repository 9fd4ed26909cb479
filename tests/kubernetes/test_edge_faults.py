"""What goes wrong between a cloud and a cluster: it is said where the user looks, nothing is lost, and nobody is let in."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest

from tests.kit.cluster import rights
from tests.kit.cluster.site import Site
from tests.kubernetes.workloads import eventually, logs, pod, ready, runs, wait_ready

pytestmark = pytest.mark.root

ADMISSION = "admissionregistration.k8s.io/v1"
NODES = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["nodes"]}]


@pytest.fixture
def machine(site: Site) -> Any:
    """The third edge, which is to join under that name and cannot."""

    def join(name: str, tenant: str = "default") -> None:
        site.join("edge3", tenant, "--wait", "0", node=name)

    return join


def test_a_webhook_that_refuses_and_one_that_is_away_are_what_a_join_says(site: Site, machine: Any) -> None:
    """The token is not used up: the join is tried again when the cluster lets it."""
    policy = {
        "failurePolicy": "Fail", "matchConstraints": {"resourceRules": NODES},
        "validations": [{"expression": "object.metadata.name != 'unwanted'", "message": "no more nodes today"}],
    }  # fmt: skip
    webhook = {
        "name": "nodes.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"], "failurePolicy": "Fail",
        "timeoutSeconds": 1, "rules": NODES, "clientConfig": {"url": "https://127.0.0.1:1/"},
    }  # fmt: skip
    site.cluster.apply(
        {"apiVersion": ADMISSION, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "nodes"}, "spec": policy},
        {"apiVersion": ADMISSION, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": "nodes"},
         "spec": {"policyName": "nodes", "validationActions": ["Deny"]}},
    )  # fmt: skip
    eventually(lambda: "no more nodes today" in _refusal(site), "the policy holds")
    with pytest.raises(RuntimeError, match="no more nodes today"):
        machine("unwanted")
    site.cluster.kubectl("delete", "validatingadmissionpolicy,validatingadmissionpolicybinding", "nodes")
    site.cluster.apply(
        {
            "apiVersion": ADMISSION,
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "nodes"},
            "webhooks": [webhook],
        }
    )
    eventually(lambda: "failed calling webhook" in _refusal(site), "the webhook holds")
    with pytest.raises(RuntimeError, match="failed calling webhook"):
        machine("unwanted")
    site.cluster.kubectl("delete", "validatingwebhookconfiguration", "nodes")
    assert site.cluster.kubectl("get", "node", "unwanted", "--ignore-not-found") == ""
    site.admin("node", "remove", "unwanted")  # its number was taken, and is free again


def _refusal(site: Site) -> str:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "unwanted"}}
    try:
        return site.cluster.kubectl("create", "--dry-run=server", "-f", "-", input=json.dumps(node))
    except RuntimeError as exc:
        return str(exc)


def test_a_kubeconfig_that_has_expired_or_has_no_rights_says_so_at_the_join(site: Site, machine: Any) -> None:
    identities = site.cluster.identities
    expired = identities.kubeconfig("expired", (), days=(-2, -1))
    powerless = identities.kubeconfig("powerless", ())
    for name, kubeconfig, said in (("late", expired, "Unauthorized|401"), ("weak", powerless, "forbidden")):
        site.admin("tenant", "create", name, "--kubeconfig", str(kubeconfig))
        with pytest.raises(RuntimeError, match=said):
            machine("edge3", name)
        with pytest.raises(RuntimeError, match=said):
            site.admin("tenant", "remove", name)  # its Nodes would stay there
        assert f"tenant {name} is removed" in site.admin("tenant", "remove", name, "--force")


def test_a_node_whose_mark_is_taken_away_is_marked_again_and_nothing_ends(site: Site) -> None:
    site.cluster.apply(pod("marked", command="exec sleep 99123"))
    uid = wait_ready(site, "marked")["metadata"]["uid"]
    mark = site.cluster.json("get", "node", "edge1")["metadata"]["annotations"]["kubeedge.io/managed"]
    site.cluster.kubectl("annotate", "node", "edge1", "kubeedge.io/managed-")

    def marked() -> bool:
        annotations = site.cluster.json("get", "node", "edge1")["metadata"].get("annotations") or {}
        return bool(annotations.get("kubeedge.io/managed") == mark)

    eventually(marked, "the mark is back")
    site.cluster.apply(pod("afterwards"))
    wait_ready(site, "afterwards")
    assert "edge1" in site.admin("node", "list")
    found = wait_ready(site, "marked")
    assert found["metadata"]["uid"] == uid and found["status"]["containerStatuses"][0]["restartCount"] == 0
    site.cluster.kubectl("delete", "pod", "afterwards", "marked", timeout=150)


def test_a_field_that_nothing_here_does_is_named_and_the_rest_of_the_pod_runs(site: Site) -> None:
    """Labels of SELinux, which no node here has. What the value of a known field may be is a matter of unit tests: an API server
    takes none that it does not know."""
    site.cluster.apply(pod("newer", command="exec sleep 99125", securityContext={"seLinuxOptions": {"level": "s0"}}))
    wait_ready(site, "newer")
    selector = "--field-selector=involvedObject.name=newer,reason=UnsupportedFields"

    def said() -> list[str]:
        return [event["message"] for event in site.cluster.json("get", "events", selector)["items"]]

    eventually(lambda: said() != [], "the event")
    assert set(said()) == {"Without effect on this node: spec.securityContext.seLinuxOptions"}
    assert runs(site, "edge1", b"99125") and ready(site, "edge1") == "True"
    site.cluster.kubectl("delete", "pod", "newer", timeout=90)


def test_rights_that_are_taken_away_stop_nothing_and_count_when_they_are_back(site: Site) -> None:
    site.cluster.apply(pod("entitled", command="exec sleep 99124"))
    wait_ready(site, "entitled")
    site.cluster.kubectl("delete", "clusterrolebinding", rights.ACCOUNT)
    log = site.directory / "cloud.log"
    eventually(lambda: f'User "{rights.ACCOUNT}" cannot' in log.read_text(), "it is said")
    assert runs(site, "edge1", b"99124")
    site.cluster.apply(*rights.objects())
    eventually(lambda: ready(site, "edge1") == "True", "Ready")
    site.cluster.apply(pod("again"))
    wait_ready(site, "again")
    assert runs(site, "edge1", b"99124")
    site.cluster.kubectl("delete", "pod", "again", "entitled", timeout=150)


def test_an_api_server_that_answers_nothing_for_a_while_is_waited_for(site: Site) -> None:
    """It accepts connections: SIGSTOP. What is written meanwhile at the edge is there afterwards."""
    command = "trap 'exit 3' USR1; echo ready; while :; do sleep 0.2; done"
    site.cluster.apply(pod("reports", command=command, restartPolicy="Never"))
    wait_ready(site, "reports")
    eventually(lambda: "ready" in logs(site, "edge1", "reports"), "the trap is set")
    pid = site.edges["edge1"].process(b"trap 'exit 3' USR1")
    site.cluster.pause("kube-apiserver")
    try:
        os.kill(pid, signal.SIGUSR1)
        eventually(lambda: not site.edges["edge1"].running(b"trap 'exit 3' USR1"), "it ended at the edge")
    finally:
        site.cluster.resume("kube-apiserver")
    site.cluster.wait()
    condition = "--for=jsonpath={.status.containerStatuses[0].state.terminated.exitCode}=3"
    site.cluster.kubectl("wait", condition, "pod/reports", "--timeout=120s", timeout=150)
    site.cluster.kubectl("delete", "pod", "reports", timeout=150)
