"""The main job on the oldest Kubernetes that upstream still supports; the other files are for the newest, or for `make test-kubernetes VERSION=...`."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.kit.cluster.site import Site, kubernetes_site
from tests.kit.upstream.build import OLDEST
from tests.kubernetes.workloads import eventually, logs, pod, runs, wait_ready, workload

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with kubernetes_site(f"kbo{os.getpid()}", 1) as site:
        site.start_cluster(release=OLDEST)
        site.start_cloud([f"default={site.kubeconfig()}"])
        site.join("edge1", "default", "--label", "rack=7")
        site.cluster.kubectl("wait", "--for=condition=Ready", "node/edge1", "--timeout=120s", timeout=150)
        yield site


def test_it_is_that_release(site: Site) -> None:
    assert site.cluster.json("version")["serverVersion"]["gitVersion"].startswith(f"v{OLDEST}.")
    node = site.cluster.json("get", "node", "edge1")
    assert node["metadata"]["labels"]["rack"] == "7" and node["spec"]["podCIDR"]


def test_a_deployment_runs_at_the_edge_with_its_secret_its_token_and_streams(site: Site) -> None:
    site.cluster.kubectl("create", "secret", "generic", "used", "--from-literal=key=s3cret")
    reader = pod(
        "reader", command="echo $KEY; cat /var/run/secrets/kubernetes.io/serviceaccount/token; exec sleep 44123"
    )
    reader["spec"]["containers"][0]["env"] = [
        {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "used", "key": "key"}}}
    ]
    site.cluster.apply(reader, workload("Deployment", "web", 2))
    found = wait_ready(site, "reader")
    assert found["status"]["observedGeneration"] == found["metadata"]["generation"]
    eventually(
        lambda: logs(site, "edge1", "reader").startswith("20") and "s3cret" in logs(site, "edge1", "reader"), "said"
    )
    assert site.cluster.kubectl("logs", "reader").count(".") == 2  # of a token
    assert site.cluster.kubectl("exec", "reader", "--", "sh", "-c", "echo inside") == "inside\n"
    site.cluster.kubectl("rollout", "status", "deployment/web", "--timeout=120s", timeout=150)
    site.cluster.kubectl("delete", "deployment", "web", timeout=150)


def test_it_goes_on_while_the_api_server_is_away_and_when_that_is_upgraded(site: Site) -> None:
    """The newest release over the data of the oldest: node and pods stay what they are."""
    uid = site.cluster.json("get", "pod", "reader")["metadata"]["uid"]
    site.cluster.kill("kube-apiserver")
    assert runs(site, "edge1", b"44123")
    site.cluster.release = ""
    site.cluster.start_part("kube-apiserver")
    site.cluster.wait()
    assert not site.cluster.json("version")["serverVersion"]["gitVersion"].startswith(f"v{OLDEST}.")
    site.cluster.apply(pod("after"))
    wait_ready(site, "after")
    assert site.cluster.json("get", "pod", "reader")["metadata"]["uid"] == uid and runs(site, "edge1", b"44123")
