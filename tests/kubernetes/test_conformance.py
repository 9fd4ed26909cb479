"""A few of upstream's own specs, one or two of each special interest group: of what `make conformance` runs for an hour, a minute.

Kubernetes' e2e binary runs them with nodes of ours; what one expected, and the steps until there, are in the message when it fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.conformance import archives
from bench.conformance.suite import Suite
from tests.kit.cluster.cluster import RELEASE
from tests.kit.cluster.site import KUBEEDGE, Site

pytestmark = pytest.mark.root

KINDS = ("agnhost", "busybox", "pause")
NODES = ("edge1", "edge2")
SPECS = [
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny attaching pod [Conformance]",
    "[sig-apps] Job should adopt matching orphans and release non-matching pods [Conformance]",
    "[sig-apps] ReplicaSet should serve a basic image on each replica with a public image [Conformance]",
    "[sig-auth] ServiceAccounts should mount projected service account token [Conformance]",
    "[sig-auth] [FeatureGate:ClusterTrustBundle] [FeatureGate:ClusterTrustBundleProjection] should be able to specify multiple CTB volumes "
    "[MinimumKubeletVersion:1.37] [Conformance]",
    "[sig-auth] Projected PodCertificate [FeatureGate:PodCertificateRequest] [FeatureGate:ClusterTrustBundle] "
    "[FeatureGate:ClusterTrustBundleProjection] should honor UserAnnotations for SPIFFE URI path [MinimumKubeletVersion:1.37] [Conformance]",
    "[sig-instrumentation] Events API should ensure that an event can be fetched, patched, deleted, and listed [Conformance]",
    "[sig-network] Networking Granular Checks: Pods should function for intra-pod communication: http [Conformance] [NodeConformance]",
    "[sig-node] Container Lifecycle Hook when create a pod with lifecycle hook should execute poststart exec hook properly [Conformance] "
    "[NodeConformance]",
    "[sig-storage] Subpath Atomic writer volumes should support subpaths with projected pod [Conformance]",
]
SECONDS = 300.0  # for one spec, on a loaded machine; ten are usual


@pytest.fixture
def nodes(site: Site, tmp_path: Path) -> Iterator[Site]:
    """With the images that specs ask for."""
    for archive in archives.write(tmp_path, KINDS, network_tools=False):
        for name in NODES:
            socket = str(site.directory / name / "run/kubeedge/edge.sock")
            site.edges[name].run(*KUBEEDGE, "image", "import", str(archive), "--socket", socket)
    yield site


def test_specs_of_each_group_pass(nodes: Site, tmp_path: Path) -> None:
    """The binary is of the newest release; an older control plane has not all that its specs ask for, and those name the release."""
    wanted = [spec for spec in SPECS if not RELEASE or "MinimumKubeletVersion" not in spec]
    suite = Suite(nodes.cloud, nodes.cluster.kubeconfig(), tmp_path, len(NODES), SECONDS)
    found = {outcome.spec: outcome for outcome in suite.run(wanted, "slice")}
    said = {
        spec: outcome.message if (outcome := found.get(spec)) else "was not run"
        for spec in wanted
        if spec not in found or found[spec].state != "passed"
    }
    log = "\n".join(path.read_text(errors="replace")[-8000:] for path in sorted(tmp_path.glob("*.log")))
    assert not said, f"{said}\n{log}"
