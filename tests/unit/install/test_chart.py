"""The chart: what it renders, by our renderer and by real Helm, and that it is one with what is generated from code."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import kubeedge
from kubeedge.config import cloud as config
from kubeedge.config.load import load_text
from kubeedge.errors import Invalid
from kubeedge_cloud.clustercalls.webhook import PATH
from kubeedge_cloud.install import chart, permissions
from kubeedge_cloud.install.values import with_sets
from tests.kit.upstream import build

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "cloud/chart/kubeedge"
HOSTS = "advertise={cloud.example.org,203.0.113.1}"
ETCD = "store.etcd.endpoints={a:2379,b:2379},store.etcd.secret=etcd,authority.secret=authority"
#: every template, every branch of them
VARIANTS = {
    "default": [HOSTS],
    "host network with a TUN": [HOSTS, "expose.type=HostNetwork,tun.enabled=true"],
    "node ports": [HOSTS, "expose.type=NodePort,nodePorts.hub=31000"],
    "etcd": [HOSTS, ETCD, "replicas=3"],
    "etcd on the hosts": [HOSTS, ETCD, "replicas=2,expose.type=HostNetwork"],
    "a claim of one's own": [HOSTS, "store.persistence.existingClaim=mine,authority.secret=ca"],
    "no volume": [HOSTS, "store.persistence.enabled=false,resources=null"],
    "everything": [
        HOSTS,
        "serviceMonitor.enabled=true,serviceMonitor.labels.release=prometheus,embeddedApi.enabled=true",
        r"expose.annotations.a\.b/c=x & <y>,expose.loadBalancerClass=metal,expose.loadBalancerSourceRanges={192.0.2.0/24}",
        "networkPolicy.metricsFrom[0].podSelector.matchLabels.app=prometheus,podLabels.a=b,podAnnotations.c=yes",
        "nodeSelector.disk=ssd,tolerations[0].key=x,tolerations[0].operator=Exists,affinity.podAffinity.x=y",
        "imagePullSecrets[0].name=pull,image.digest=sha256:" + "0" * 64 + ",priorityClassName=high",
        "store.persistence.storageClass=fast,store.persistence.size=5Gi,serviceAccount.annotations.role=r",
        "topologySpreadConstraints[0].maxSkew=1,config.logging.level=debug,config.publishing.rate=2,config.listeners.hub.address=::",
    ],
    "certificates of a Secret": [HOSTS, "kubelets.certificateSecret=serving"],
    "devices of the cluster": [HOSTS, "devices.enabled=true,devices.port=10014"],
    "gateways of the cluster": [HOSTS, "gateways.enabled=true"],
    "certificates of the cluster": [HOSTS, "kubelets.serverTlsBootstrap=true,kubelets.approveCertificates=true"],
    "a virtual router": [HOSTS, "router.enabled=true,router.networks={10.96.0.0/12,10.50.0.0/24},imagePullSecrets[0].name=pull"],
    "a router without a DaemonSet": [HOSTS, "router.enabled=true,router.routes.enabled=false,rbac.create=false,expose.type=NodePort"],
    "little": [HOSTS, "rbac.create=false,serviceAccount.create=false,serviceAccount.name=own,podDisruptionBudget.enabled=false",
               "networkPolicy.enabled=false"],
}  # fmt: skip


def objects(found: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """By kind and name; the configuration as what it means."""
    for each in found:
        if "cloud.yaml" in each.get("data", {}):
            each["data"]["cloud.yaml"] = yaml.safe_load(each["data"]["cloud.yaml"])
    return {(each["kind"], each["metadata"]["name"]): each for each in found}


def ours(sets: list[str]) -> dict[tuple[str, str], dict[str, Any]]:
    return objects(chart.load().render(with_sets({}, sets), namespace="kubeedge"))


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(build.program("helm")), *arguments], capture_output=True, text=True, timeout=120)


def flags(sets: list[str]) -> list[str]:
    return [word for text in sets for word in ("--set", text)]


@pytest.mark.parametrize("variant", VARIANTS)
def test_helm_renders_the_same(variant: str) -> None:
    sets = VARIANTS[variant]
    done = helm("template", "kubeedge", str(CHART), "-n", "kubeedge", "--kube-version", "1.37.2", *flags(sets))
    assert done.returncode == 0, done.stderr
    theirs, mine = objects([each for each in yaml.safe_load_all(done.stdout) if each]), ours(sets)
    assert sorted(theirs) == sorted(mine)
    for key, each in theirs.items():
        assert mine[key] == each, key


def test_helm_lints_it() -> None:
    done = helm("lint", "--strict", str(CHART), *flags([HOSTS]))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_cloud_reads_its_configuration(variant: str) -> None:
    found = ours(VARIANTS[variant])["ConfigMap", "kubeedge-cloud"]["data"]["cloud.yaml"]
    read = load_text(config.CloudConfig, yaml.safe_dump(found), api_version=config.API_VERSION, kind=config.KIND)
    assert read.advertise == ("cloud.example.org", "203.0.113.1")


@pytest.mark.parametrize(
    ("sets", "what"),
    [
        ([], "advertise: which names"),
        ([HOSTS, "replicas=2"], "SQLite has one writer"),
        ([HOSTS, "store.etcd.endpoints={a:2379}"], "authority.secret"),
        ([HOSTS, ETCD, "replicas=2,tun.enabled=true"], "tun.enabled"),
        ([HOSTS, ETCD, "replicas=2,router.enabled=true"], "router.enabled"),
        ([HOSTS, "serviceMonitor.enabled=true,expose.type=HostNetwork"], "loopback"),
        ([HOSTS, "serviceMonitor.enabled=true,router.enabled=true"], "loopback"),
        ([HOSTS, "router.enabled=true,router.networks={services}"], "router.networks"),
        ([HOSTS, "expose.type=Tunnel"], "expose.type"),
        ([HOSTS, "kubelets.approveCertificates=true"], "nothing to approve"),
        ([HOSTS, "nodeports.hub=1"], "nodeports"),
        ([HOSTS, "ports.hub=70000"], "ports.hub|ports/hub"),
        (["advertise={http://a/}"], "advertise"),
        ([HOSTS, "replicas=many"], "replicas"),
    ],
)  # fmt: skip
def test_wrong_values_are_refused_by_both(sets: list[str], what: str) -> None:
    with pytest.raises(Invalid, match=what):
        ours(sets)
    done = helm("template", "kubeedge", str(CHART), "--kube-version", "1.37.2", *flags(sets))
    assert done.returncode != 0 and re.search(what, done.stderr), done.stderr


def test_every_value_has_a_comment_and_a_place_in_the_schema() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())

    def look(values: dict[str, Any], known: dict[str, Any], path: str) -> None:
        for key, value in values.items():
            assert key in known["properties"], f"{path}{key}"
            if isinstance(value, dict) and "properties" in known["properties"][key]:
                look(value, known["properties"][key], f"{path}{key}.")

    look(yaml.safe_load((CHART / "values.yaml").read_text()), schema, "")


def test_the_rights_are_those_of_the_table() -> None:
    assert (CHART / "files/rules.yaml").read_text() == permissions.rules_file(), "make manifests"
    assert ours([HOSTS])["ClusterRole", "kubeedge-cloud"]["rules"] == permissions.rules()
    approving = ours([HOSTS, "kubelets.serverTlsBootstrap=true", "kubelets.approveCertificates=true"])
    both = (*permissions.RULES, *permissions.APPROVAL_RULES)
    assert approving["ClusterRole", "kubeedge-cloud"]["rules"] == permissions.rules(both)
    assert (CHART / "files/approval-rules.yaml").read_text() == permissions.rules_file(permissions.APPROVAL_RULES)
    serving = ours([HOSTS, "gateways.enabled=true"])
    assert serving["ClusterRole", "kubeedge-cloud"]["rules"] == permissions.rules(
        (*permissions.RULES, *permissions.GATEWAY_RULES)
    )
    assert (CHART / "files/gateway-rules.yaml").read_text() == permissions.rules_file(permissions.GATEWAY_RULES)
    devices = ours([HOSTS, "devices.enabled=true"])
    assert devices["ClusterRole", "kubeedge-cloud"]["rules"] == permissions.rules(
        (*permissions.RULES, *permissions.DEVICE_RULES)
    )
    assert (CHART / "files/device-rules.yaml").read_text() == permissions.rules_file(permissions.DEVICE_RULES)
    everything = [word for rule in both for word in (rule.group, *rule.resources, *rule.verbs)]
    assert "*" not in everything and "secrets" not in everything


def test_definitions_of_devices_name_the_service_of_the_installation() -> None:
    made = {"namespace": "elsewhere"}
    found = objects(chart.load().render(with_sets({}, [HOSTS, "devices.enabled=true"]), namespace=made["namespace"]))
    for name in ("devices", "devicemodels"):
        conversion = found["CustomResourceDefinition", f"{name}.devices.kubeedge.io"]["spec"]["conversion"]
        assert conversion["webhook"]["clientConfig"] == {
            "service": {**made, "name": "kubeedge-cloud-clusters", "path": PATH, "port": 443}
        }
    assert ("CustomResourceDefinition", "rules.rules.kubeedge.io") in found
    assert found["Service", "kubeedge-cloud-clusters"]["spec"]["ports"][0]["targetPort"] == 10004
    config = found["ConfigMap", "kubeedge-cloud"]["data"]["cloud.yaml"]
    assert config["clusters"]["service"] == "elsewhere/kubeedge-cloud-clusters"
    assert config["listeners"]["clusters"] == {"enable": True, "port": 10004}
    assert not any(kind == "CustomResourceDefinition" for kind, _ in ours([HOSTS]))


def test_its_version_is_that_of_the_program() -> None:
    found = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert found["version"] == found["appVersion"] == kubeedge.__version__


def test_a_change_of_the_configuration_makes_new_pods() -> None:
    def mark(*more: str) -> str:
        found = ours([HOSTS, *more])["Deployment", "kubeedge-cloud"]
        return str(found["spec"]["template"]["metadata"]["annotations"]["kubeedge.io/values"])

    assert mark() == mark("podDisruptionBudget.enabled=false")
    assert len({mark(), mark("config.logging.level=debug"), mark("ports.hub=1"), mark("tun.enabled=true")}) == 4


def test_the_manifests_are_those_of_the_chart() -> None:
    """cloud/manifests is for people without Helm and without this program: `make manifests` writes them."""
    from cloud.manifests import __main__ as manifests

    for path, text in manifests.files().items():
        assert path.read_text(encoding="utf-8") == text, "make manifests"
