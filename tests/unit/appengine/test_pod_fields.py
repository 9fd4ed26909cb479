"""Every field of a Pod is honoured, somebody else's, refused, or named in an event: the schema says which there are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client

from kubeedge.api import pod_fields, schema
from kubeedge.api.pod import Unsupported
from kubeedge.apiserver import admission
from tests.unit.appengine.world import container, pod

NAMED = """
PodSecurityContext.seLinuxOptions PodSecurityContext.windowsOptions PodSecurityContext.seLinuxChangePolicy
SecurityContext.seLinuxOptions SecurityContext.windowsOptions
"""
NOT_IN_SCHEMA = """
HTTPGet.protocol GRPCAction.mode VolumeMount.bindMountOptions
ConfigMapVolume.defaultUser SecretVolume.defaultUser DownwardVolume.defaultUser ProjectedVolume.defaultUser KeyToPath.user
DownwardFile.user ServiceAccountToken.user ClusterTrustBundle.user PodCertificate.user EmptyDir.mode
"""  # of the newest Kubernetes alone: named, for the schema does not have them
REFUSED = """
iscsi rbd cephfs glusterfs fc flexVolume gitRepo cinder flocker quobyte azureFile
azureDisk gcePersistentDisk awsElasticBlockStore vsphereVolume photonPersistentDisk portworxVolume scaleIO storageos
"""  # volumes
REFUSED_FIELDS = """
PodSpec.resourceClaims ResourceRequirements.claims Container.volumeDevices
"""  # the second names one of the first
SCHEDULING = {"Affinity", "Toleration", "TopologySpread"}  # not read on a node


def fields(kind: str, seen: set[str]) -> set[str]:
    """ "Type.field" of all that a value of this type can hold."""
    known = schema.fields_of(kind)
    if known is None or kind in seen or kind in SCHEDULING:
        return set()
    seen.add(kind)
    found = {f"{kind}.{name}" for name in known}
    return found.union(*(fields(field.type, seen) for field in known.values()))


def test_every_field_of_the_schema_has_been_decided_upon() -> None:
    of_schema = fields("PodSpec", set())
    refused = {f"Volume.{name}" for name in REFUSED.split()} | set(REFUSED_FIELDS.split())
    named = set(NAMED.split())
    decided = pod_fields.decided()
    assert of_schema - decided - named - refused == set(), "new in the schema: honour, refuse or name them"
    assert not decided & named and not decided & refused
    ours = {inner for inner, _ in pod_fields.INNER.values()}  # what the schema keeps as it comes
    assert {f for f in (decided | named | refused) - of_schema if f.split(".")[0] not in ours} == set()


def test_what_the_scheduler_reads_is_not_named_at_a_node_as_without_effect() -> None:
    """Admission of a cluster gives tolerations to each pod."""
    terms = [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}]
    spec = {
        "tolerations": [{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}},
        "securityContext": {"seLinuxOptions": {"level": "s0"}},
    }
    assert list(pod_fields.without_effect(spec)) == ["spec.securityContext.seLinuxOptions"]


def pairs(ours: str, theirs: str, seen: set[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """(our type, model of the client) of all that a PodSpec can hold."""
    if (ours, theirs) in seen or ours in SCHEDULING:
        return
    seen.add((ours, theirs))
    yield ours, theirs
    known = schema.fields_of(ours) or {}
    for name, kind in model(theirs).items():
        inner = re.search(r"V1\w+", kind)
        if inner and (within := pod_fields.INNER.get(f"{ours}.{name}")):
            yield from pairs(within[0], inner[0], seen)
        elif inner and name in known and schema.fields_of(known[name].type):
            yield from pairs(known[name].type, inner[0], seen)


def model(name: str) -> dict[str, str]:
    """Field -> type of a model of the client."""
    found = getattr(client, name)
    return {found.attribute_map[attribute]: kind for attribute, kind in found.openapi_types.items()}


def test_every_field_of_the_newest_kubernetes_has_been_decided_upon() -> None:
    """By the newest Python client: its next version fails here until somebody has looked at what is new."""
    known = pod_fields.decided() | set(NAMED.split()) | set(NOT_IN_SCHEMA.split())
    known |= {f"Volume.{name}" for name in REFUSED.split()} | set(REFUSED_FIELDS.split())
    walked = list(pairs("PodSpec", "V1PodSpec", set()))
    assert len(walked) > 45
    new = {f"{ours}.{name}" for ours, theirs in walked for name in model(theirs)} - known
    assert new == set(), f"new in the client {client.__version__}: honour, refuse or name them"


@pytest.mark.parametrize("kind", REFUSED.split())
def test_a_volume_that_this_node_does_not_have_makes_the_pod_wait(kind: str) -> None:
    with pytest.raises(Unsupported, match=kind):
        pod(volumes=[{"name": "v", kind: {}}])


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"dnsConfig": {"fallback": ["x"]}}, "spec.dnsConfig.fallback"),
        ({"dnsConfig": {"options": [{"name": "ndots", "weight": 2}]}}, "spec.dnsConfig.options[0].weight"),
        ({"newInKubernetes": {"a": 1}}, "spec.newInKubernetes"),
        ({"securityContext": {"seLinuxOptions": {"level": "s0"}}}, "spec.securityContext.seLinuxOptions"),
        ({"volumes": [{"name": "v", "emptyDir": {"colour": "red"}}]}, "spec.volumes[0].emptyDir.colour"),
        ({"volumes": [{"name": "v", "csi": {"driver": "d", "colour": "red"}}]}, "spec.volumes[0].csi.colour"),
        (
            {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c", "x": 1}}]},
            "spec.volumes[0].persistentVolumeClaim.x",
        ),
        (
            {"volumes": [{"name": "v", "projected": {"sources": [{"clusterTrustBundle": {"path": "t", "x": 1}}]}}]},
            "spec.volumes[0].projected.sources[0].clusterTrustBundle.x",
        ),
        (
            {"volumes": [{"name": "v", "projected": {"sources": [{"podCertificate": {"keyPath": "k", "user": 1}}]}}]},
            "spec.volumes[0].projected.sources[0].podCertificate.user",
        ),
        (
            {
                "volumes": [
                    {"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "colour": 1}}]}}
                ]
            },
            "spec.volumes[0].projected.sources[0].serviceAccountToken.colour",
        ),
    ],
)
def test_nested_fields_without_effect_are_named(spec: dict[str, Any], path: str) -> None:
    assert pod(**spec).unsupported == (path,)


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"volumeMounts": [{"name": "v", "mountPath": "/v", "bindMountOptions": ["x"]}]},
         "volumeMounts[0].bindMountOptions"),
        ({"resources": {"limits": {"nvidia.com/gpu": 1}}}, "resources.limits.nvidia.com/gpu"),
        ({"resources": {"requests": {"example.com/x": "1"}}}, "resources.requests.example.com/x"),
        ({"lifecycle": {"preStop": {"sleep": {"seconds": 3, "jitter": 1}}}}, "lifecycle.preStop.sleep.jitter"),
        ({"restartPolicy": "Never", "restartPolicyRules": [
            {"action": "Restart", "exitCodes": {"operator": "In", "values": [1], "except": 1}}]},
         "restartPolicyRules[0].exitCodes.except"),
        ({"readinessProbe": {"exec": {"command": ["x"]}, "jitter": 1}}, "readinessProbe.jitter"),
        ({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}, "urlRef": {}}}]},
         "env[0].valueFrom.urlRef"),
    ],
)  # fmt: skip
def test_so_are_those_of_containers(fields: dict[str, Any], path: str) -> None:
    spec = pod(volumes=[{"name": "v", "emptyDir": {}}], containers=[container(**fields)])
    assert f"spec.containers[0].{path}" in spec.unsupported


@pytest.mark.parametrize(
    ("fields", "of_container", "path"),
    [
        ({"resourceClaims": [{"name": "gpu", "resourceClaimName": "c"}]}, {"resources": {"claims": [{"name": "gpu"}]}},
         "spec.resourceClaims"),
        ({}, {"volumeDevices": [{"name": "v", "devicePath": "/dev/x"}]}, "spec.containers[0].volumeDevices"),
    ],
)  # fmt: skip
def test_what_a_container_could_not_do_without_makes_the_pod_wait(
    fields: dict[str, Any], of_container: dict[str, Any], path: str
) -> None:
    with pytest.raises(Unsupported) as said:
        pod(containers=[container(**of_container)], **fields)
    assert str(said.value).startswith(path)


def test_nothing_is_named_of_what_the_api_itself_puts_into_every_pod() -> None:
    manifest = {"metadata": {"name": "p", "namespace": "default", "uid": "u"}, "spec": {"containers": [container()]}}
    made = admission.admitted(admission.named(manifest), {"imagePullSecrets": [{"name": "s"}]}, lambda n: bytes(n))
    assert pod(**made["spec"]).unsupported == ()


def test_what_is_honoured_or_says_the_default_is_not_named() -> None:
    quiet = pod(
        dnsPolicy="ClusterFirst", dnsConfig={"options": [{"name": "ndots", "value": "5"}]}, subdomain="sub", os={"name": "linux"},
        securityContext={"fsGroup": 1, "supplementalGroupsPolicy": "Merge", "seccompProfile": {"type": "RuntimeDefault"}},
        volumes=[{"name": "v", "emptyDir": {"sizeLimit": "4Mi"}}],
        containers=[
            container(
                terminationMessagePolicy="FallbackToLogsOnError",
                volumeMounts=[{"name": "v", "mountPath": "/v", "subPathExpr": "$(A)", "mountPropagation": "None"}],
                livenessProbe={"httpGet": {"port": 1, "scheme": "HTTP"}, "terminationGracePeriodSeconds": 1},
                readinessProbe={"grpc": {"port": 1, "service": "x"}},
            )
        ],
        initContainers=[container("side", restartPolicy="Always")],
    )  # fmt: skip
    assert quiet.unsupported == ()
