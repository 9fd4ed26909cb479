"""One control plane, one cloud and its edges for all files: they take half a minute to start."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.kit.cluster import KubernetesCluster
from tests.kit.cluster.site import Site, kubernetes_site

#: the lifecycle controller's usual 50 s and 5 s, for a test
OPTIONS = {"kube-controller-manager": ["--node-monitor-grace-period=24s", "--node-monitor-period=1s"]}

#: who may do what, and what runs: of these the next file would notice. A thousand ConfigMaps take kubectl three minutes
KINDS = (
    "serviceaccounts,roles,rolebindings,clusterroles,clusterrolebindings,"
    "deployments,daemonsets,statefulsets,jobs,cronjobs,pods"
)


@pytest.fixture(scope="session")
def _site() -> Iterator[Site]:
    with kubernetes_site(f"kbk{os.getpid()}", 3) as site:
        site.start_cluster(OPTIONS)
        yield site


def _objects(cluster: KubernetesCluster) -> set[str]:
    found = cluster.kubectl("get", KINDS, "--namespace=default", "-o", "name").split()
    return {name for name in found if "/system:" not in name}


@pytest.fixture(scope="module")
def _own_objects(_site: Site) -> Iterator[None]:
    """What one file leaves is not found by the next: an account of the same name would have more rights there than it was given, a pod of the
    same name could not be made. No cloud is needed for that: pods go from the API at once, and from their nodes later."""
    before = _objects(_site.cluster)
    yield
    if left := _objects(_site.cluster) - before:
        how = ("--namespace=default", "--ignore-not-found", "--force", "--grace-period=0")
        _site.cluster.kubectl("delete", *how, *sorted(left))


@pytest.fixture
def kubernetes(_site: Site, _own_objects: None) -> KubernetesCluster:
    """The control plane."""
    return _site.cluster


@pytest.fixture(scope="module")
def site(_site: Site, _own_objects: None) -> Iterator[Site]:
    """With the cloud, and edge1 and edge2 as Ready nodes, which they stay from file to file; edge3 has not joined."""
    _site.start_cloud([f"default={_site.kubeconfig()}"])
    for name in ("edge1", "edge2"):
        if name not in _site.agents:
            _site.join(name)
    for name in ("edge1", "edge2"):
        _site.cluster.kubectl("wait", "--for=condition=Ready", f"node/{name}", "--timeout=120s", timeout=150)
    yield _site
    _site.stop_cloud()
