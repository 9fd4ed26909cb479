"""What manifests may say: types, defaults and rules, in the words that kubectl users know."""

from __future__ import annotations

import base64
import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.api import defaults, schema, validation_kinds
from kubeedge.api.client import Resource
from kubeedge.api.names import Object
from kubeedge.api.resources import CONFIGMAPS, DEPLOYMENTS, NODES, PODS, SECRETS, SERVICES, Resources
from kubeedge.api.service_accounts import MAX_POD_TOKENS
from kubeedge.api.status import InvalidObject
from kubeedge.apiserver import core
from kubeedge.apiserver.builtin import BUILT_IN
from kubeedge.errors import KubeEdgeError

VOLUME = {"name": "v", "configMap": {"name": "c"}}


def made(resource: Resource, obj: Object) -> Object:
    return core.create(
        Resources(BUILT_IN).row_of(resource),
        "default",
        {"metadata": {"name": "x"}, **obj},
        core.WriteOptions(),
        now=0.0,
        randbytes=lambda size: b"\1" * size,
    )


def pod(container: Object | None = None, **spec: Any) -> Object:
    return {"spec": {"containers": [{"name": "c", "image": "i", **(container or {})}], **spec}}


def deployment(**spec: Any) -> Object:
    base: Object = {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, **pod()},
    }
    return {"spec": {**base, **spec}}


def service(*ports: Object, **spec: Any) -> Object:
    return {"spec": {"ports": list(ports) or [{"port": 80}], **spec}}


@pytest.mark.parametrize(
    ("resource", "obj", "field", "message"),
    [
        (PODS, {"spec": {}}, "spec.containers", "Required value"),
        (PODS, {"spec": {"containers": [{"image": "i"}]}}, "spec.containers[0].name", "Required value"),
        (PODS, {"spec": {"containers": [{"name": "c"}]}}, "spec.containers[0].image", "Required value"),
        (PODS, pod({"name": "A_b"}), "spec.containers[0].name", 'Invalid value: "A_b"'),
        (PODS, pod({"imagePullPolicy": "Never!"}), "spec.containers[0].imagePullPolicy", "Unsupported value"),
        (
            PODS,
            pod({"ports": [{"containerPort": 70000}]}),
            "spec.containers[0].ports[0].containerPort",
            "between 1 and",
        ),
        (PODS, pod({"ports": [{}]}), "spec.containers[0].ports[0].containerPort", "Required value"),
        (PODS, pod({"ports": [{"containerPort": 1, "name": "UP"}]}), "spec.containers[0].ports[0].name", "UP"),
        (PODS, pod({"env": [{"value": "1"}]}), "spec.containers[0].env[0].name", "Required value"),
        (PODS, pod({"env": [{"name": "A=B"}]}), "spec.containers[0].env[0].name", "printable"),
        (PODS, pod({"env": [{"name": "A", "valueFrom": {}}]}), "spec.containers[0].env[0].valueFrom", "exactly one of"),
        (
            PODS,
            pod({"volumeMounts": [{"name": "v", "mountPath": "/m"}]}),
            "spec.containers[0].volumeMounts[0].name",
            'Not found: "v"',
        ),
        (
            PODS,
            pod({"volumeMounts": [{"name": "v"}]}, volumes=[VOLUME]),
            "spec.containers[0].volumeMounts[0].mountPath",
            "Required",
        ),
        (
            PODS,
            pod({"volumeMounts": [{"name": "v", "mountPath": "/m", "subPath": "../x"}]}, volumes=[VOLUME]),
            "spec.containers[0].volumeMounts[0].subPath",
            "'..'",
        ),
        (PODS, pod(volumes=[VOLUME, VOLUME]), "spec.volumes[1].name", 'Duplicate value: "v"'),
        (PODS, pod(volumes=[{**VOLUME, "emptyDir": {}}]), "spec.volumes[0].emptyDir", "more than 1 volume type"),
        (
            PODS,
            pod(volumes=[{"name": "e", "emptyDir": {"sizeLimit": "-1"}}]),
            "spec.volumes[0].emptyDir.sizeLimit",
            "or equal to 0",
        ),
        (
            PODS,
            pod(volumes=[{"name": "v", "configMap": {"name": "c", "items": [{"key": "k", "path": "../../etc"}]}}]),
            "spec.volumes[0].configMap.items[0].path",
            "'..'",
        ),
        (
            PODS,
            pod({"resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}}),
            "spec.containers[0].resources.requests",
            "less than or equal to cpu limit of 1",
        ),
        (
            PODS,
            pod({"resources": {"limits": {"memory": "lots"}}}),
            "spec.containers[0].resources.limits.memory",
            "quantities must match",
        ),
        (
            PODS,
            pod({"resources": {"limits": {"memory": "-1"}}}),
            "spec.containers[0].resources.limits.memory",
            "greater than or equal to 0",
        ),
        (PODS, pod({"livenessProbe": {}}), "spec.containers[0].livenessProbe", "must specify a handler type"),
        (
            PODS,
            pod({"livenessProbe": {"tcpSocket": {"port": 0}}}),
            "spec.containers[0].livenessProbe.tcpSocket.port",
            "between 1",
        ),
        (
            PODS,
            pod(restartPolicy="Sometimes"),
            "spec.restartPolicy",
            'supported values: "Always", "Never", "OnFailure"',
        ),
        (PODS, pod(tolerations=[{"operator": "Equal"}]), "spec.tolerations[0].operator", "must be Exists"),
        (PODS, pod(terminationGracePeriodSeconds=-1), "spec.terminationGracePeriodSeconds", "greater than"),
        (PODS, pod(hostNetwork="yes"), "spec.hostNetwork", 'must be of type boolean: "string"'),
        (PODS, pod({"args": "x"}), "spec.containers[0].args", "must be of type array"),
        (PODS, pod({"args": [None]}), "spec.containers[0].args[0]", "must be of type string"),
        (PODS, {"spec": {"containers": ["c"]}}, "spec.containers[0]", "must be of type object"),
        (PODS, {"metadata": {"name": "Bad_Name"}, **pod()}, "metadata.name", "RFC 1123 subdomain"),
        (PODS, {"metadata": {"name": "x", "labels": {"-a": "b"}}, **pod()}, "metadata.labels", "name part"),
        (
            PODS,
            {"metadata": {"name": "x", "labels": {"a": 1}}, **pod()},
            "metadata.labels.a",
            'must be of type string: "integer"',
        ),
        (
            PODS,
            {"metadata": {"name": "x", "annotations": {"a": "x" * 300_000}}, **pod()},
            "metadata.annotations",
            "Too long",
        ),
        (DEPLOYMENTS, deployment(selector=None), "spec.selector", "Required value"),
        (
            DEPLOYMENTS,
            deployment(selector={"matchLabels": {"a": "c"}}),
            "spec.template.metadata.labels",
            "`selector` does not match",
        ),
        (DEPLOYMENTS, deployment(replicas=-1), "spec.replicas", "greater than or equal to 0"),
        (DEPLOYMENTS, deployment(replicas="three"), "spec.replicas", 'must be of type integer: "string"'),
        (DEPLOYMENTS, deployment(replicas=2**31), "spec.replicas", "32 bits"),
        (DEPLOYMENTS, deployment(strategy={"type": "Slowly"}), "spec.strategy.type", "Unsupported value"),
        (
            DEPLOYMENTS,
            deployment(strategy={"rollingUpdate": {"maxSurge": "x%"}}),
            "spec.strategy.rollingUpdate.maxSurge",
            "percent",
        ),
        (
            DEPLOYMENTS,
            deployment(strategy={"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}),
            "spec.strategy.rollingUpdate.maxUnavailable",
            "may not be 0",
        ),
        (
            DEPLOYMENTS,
            deployment(template={"metadata": {"labels": {"a": "b"}}, **pod(restartPolicy="Never")}),
            "spec.template.spec.restartPolicy",
            "Unsupported",
        ),
        (SERVICES, {"spec": {}}, "spec.ports", "Required value"),
        (SERVICES, service({"port": 0}), "spec.ports[0].port", "between 1"),
        (SERVICES, service({"port": 1}, {"port": 2}), "spec.ports[0].name", "Required value"),
        (SERVICES, service(clusterIP="banana"), "spec.clusterIPs[0]", "valid IP address"),
        (SERVICES, service(clusterIP="fd00::1%eth0"), "spec.clusterIPs[0]", "valid IP address"),
        (SERVICES, service(type="Tunnel"), "spec.type", "Unsupported value"),
        (SERVICES, {"metadata": {"name": "a.b"}, **service()}, "metadata.name", "RFC 1123 label"),
        (CONFIGMAPS, {"data": {"a/b": "x"}}, "data[a/b]", "config key"),
        (CONFIGMAPS, {"data": {"..": "x"}}, "data[..]", "config key"),
        (CONFIGMAPS, {"data": {"a": 1}}, "data.a", 'must be of type string: "integer"'),
        (CONFIGMAPS, {"data": {"a": "x" * 1_100_000}}, "", "Too long"),
        (SECRETS, {"data": {"a": "not base64!"}}, "data[a]", "illegal base64"),
        (NODES, {"spec": {"taints": [{"key": "a", "effect": "Go"}]}}, "spec.taints[0].effect", "Unsupported value"),
    ],
)
def test_a_mistake_is_named_by_its_field(resource: Resource, obj: Object, field: str, message: str) -> None:
    with pytest.raises(InvalidObject) as caught:
        made(resource, obj)
    causes = caught.value.status()["details"]["causes"]
    assert any(cause["field"] == field and message in cause["message"] for cause in causes), causes
    assert caught.value.status()["code"] == 422


def ports(*found: Object, name: str = "c") -> Object:
    return {"name": name, "image": "i", "ports": [{"containerPort": 1, **port} for port in found]}


TWICE: list[tuple[Object, str, str]] = [
    (pod(ports({"hostPort": 80}, {"hostPort": 80})), "containers[0].ports[1].hostPort", 'Duplicate value: "TCP//80"'),
    (
        pod(containers=[ports({"hostPort": 80}), ports({"hostPort": 80, "protocol": "TCP"}, name="d")]),
        "containers[1].ports[0].hostPort",
        "Duplicate value",
    ),
    (
        pod(
            initContainers=[
                ports({"hostPort": 5, "hostIP": "10.0.0.1"}, {"hostPort": 5, "hostIP": "10.0.0.1"}, name="i")
            ]
        ),
        "initContainers[0].ports[1].hostPort",
        'Duplicate value: "TCP/10.0.0.1/5"',
    ),
    (
        pod(securityContext={"sysctls": [{"name": "kernel.shm_rmid_forced", "value": v} for v in "01"]}),
        "securityContext.sysctls[1].name",
        'Duplicate value: "kernel.shm_rmid_forced"',
    ),
    (
        pod(
            securityContext={
                "sysctls": [
                    {"name": "net.ipv4.tcp_syncookies", "value": "0"},
                    {"name": "net/ipv4/tcp_syncookies", "value": "1"},
                ]
            }
        ),
        "securityContext.sysctls[1].name",
        "Duplicate value",
    ),
]


@pytest.mark.parametrize(("obj", "field", "message"), TWICE)
def test_what_a_node_has_once_is_asked_for_once(obj: Object, field: str, message: str) -> None:
    with pytest.raises(InvalidObject) as caught:
        made(PODS, obj)
    (cause,) = caught.value.status()["details"]["causes"]
    assert cause["field"] == f"spec.{field}" and message in cause["message"]
    template = {"metadata": {"labels": {"a": "b"}}, **obj}
    with pytest.raises(InvalidObject, match="Duplicate value"):
        made(DEPLOYMENTS, deployment(template=template))


def test_ports_that_differ_and_those_of_containers_that_run_one_after_the_other_are_no_conflict() -> None:
    different = ports(
        {"hostPort": 80},
        {"hostPort": 80, "protocol": "UDP"},
        {"hostPort": 80, "hostIP": "10.0.0.1"},
        {"hostPort": 81},
        {},
        {},
    )
    made(PODS, pod(containers=[different], initContainers=[ports({"hostPort": 80}, name=n) for n in "ij"]))


def affine(kind: str, count: int) -> Object:
    term = {"topologyKey": "a", "labelSelector": {"matchLabels": {"a": "b"}}}
    return {"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term] * count}}}


NAMES = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "In", "values": ["x"] * 1000}]}]}


@pytest.mark.parametrize(
    ("resource", "obj", "field", "number"),
    [
        (PODS, pod(tolerations=[{"operator": "Exists"}] * 257), "tolerations", "257"),
        (PODS, pod(ports(*({"containerPort": n + 1} for n in range(1001)))), "containers", "1001"),
        (
            PODS,
            pod(**affine("podAffinity", 33)),
            "affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution",
            "33",
        ),
        (
            PODS,
            pod(affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": NAMES}}),
            "affinity",
            "1010",
        ),
        (SERVICES, service(*({"port": n + 1, "name": f"p{n}"} for n in range(101))), "ports", "101"),
        (NODES, {"spec": {"taints": [{"key": f"k{n}", "effect": "NoSchedule"} for n in range(257)]}}, "taints", "257"),
    ],
)
def test_what_is_compared_with_as_much_of_others_has_so_many_items(
    resource: Resource, obj: Object, field: str, number: str
) -> None:
    with pytest.raises(InvalidObject) as caught:
        made(resource, obj)
    causes = caught.value.status()["details"]["causes"]
    assert any(c["field"] == f"spec.{field}" and f"Too many: {number}" in c["message"] for c in causes), causes


def mounted(target: str, volume: Object | None = None, **mount: Any) -> Object:
    return pod(
        {"volumeMounts": [{"name": "v", "mountPath": target, **mount}]},
        volumes=[{"name": "v", **(volume or {"emptyDir": {}})}],
    )


@pytest.mark.parametrize(
    ("target", "path", "why"),
    [
        ("/", "", "the root of the container"),
        ("//", "", "the root of the container"),
        ("/a/..", "", "the root of the container"),
        ("/", "/", "the root of the container"),
        ("/proc", "", "only the node's own /proc"),
        ("proc", "", "only the node's own /proc"),
        ("/proc/", "/srv", "only the node's own /proc"),
        ("/./proc/../proc", "/", "only the node's own /proc"),
        ("//proc/self/attr", "", "inside /proc"),
        ("/x/../proc/sys", "/proc/sys", "inside /proc"),
        ("/proc/sys/kernel", "", "inside /proc"),
        ("/sys", "/", "only the node's own /sys"),
        ("/dev", "", "only the node's own /dev"),
        ("/dev", "/dev/shm", "only the node's own /dev"),
    ],
)
def test_nothing_is_mounted_over_what_a_container_consists_of(target: str, path: str, why: str) -> None:
    with pytest.raises(InvalidObject) as caught:
        made(PODS, mounted(target, {"hostPath": {"path": path}} if path else None))
    (cause,) = caught.value.status()["details"]["causes"]
    assert cause["field"] == "spec.containers[0].volumeMounts[0].mountPath" and why in cause["message"]


def test_a_part_of_the_node_s_dev_is_not_its_dev() -> None:
    with pytest.raises(InvalidObject, match="only the node's own /dev"):
        made(PODS, mounted("/dev", {"hostPath": {"path": "/dev"}}, subPath="shm"))


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/dev/shm", ""),
        ("/dev/net/tun", "/dev/net/tun"),
        ("/dev", "/dev/"),
        ("/sys", "/sys"),
        ("/sys/fs/bpf", "/sys/fs/bpf"),
        ("/sys/fs/cgroup", "/sys/fs/cgroup"),
        ("/proc", "/proc"),
        ("/host/proc", "/proc"),
        ("/proc/cpuinfo", "/var/lib/lxcfs/proc/cpuinfo"),
        ("/procfs", ""),
        ("/devices", ""),
    ],
)
def test_what_other_clusters_mount_is_mounted(target: str, path: str) -> None:
    made(PODS, mounted(target, {"hostPath": {"path": path}} if path else None))


def test_an_object_of_a_time_with_fewer_rules_can_still_be_written() -> None:
    """Its finalizers must go, or it could not be deleted."""
    row = Resources(BUILT_IN).row_of(PODS)
    old = made(PODS, mounted("/mnt"))
    old["metadata"]["finalizers"] = ["a/b"]
    old["spec"]["containers"][0]["volumeMounts"][0]["mountPath"] = "/proc"
    new = copy.deepcopy(old)
    del new["metadata"]["finalizers"]
    validation_kinds.update(row, new, old)
    new["metadata"]["name"] = "Bad_Name"
    with pytest.raises(InvalidObject, match="RFC 1123") as caught:
        validation_kinds.update(row, new, old)
    assert "proc" not in str(caught.value)


_CERTIFICATE = {"signerName": "x.example/s", "keyType": "ED25519", "credentialBundlePath": "bundle.pem"}


@pytest.mark.parametrize(
    ("volume", "field"),
    [
        ({"secret": {"secretName": "s", "items": [{"key": "k", "path": "..data/x"}]}}, "secret.items[0].path"),
        ({"secret": {"secretName": "s", "items": [{"key": "k", "path": "a\0b"}]}}, "secret.items[0].path"),
        ({"secret": {"secretName": "s", "defaultMode": 0o4755}}, "secret.defaultMode"),
        ({"configMap": {"name": "c", "items": [{"key": "k", "path": "x", "mode": -1}]}}, "configMap.items[0].mode"),
        ({"projected": {"defaultMode": 0o2000}}, "projected.defaultMode"),
        (
            {"projected": {"sources": [{}, {"secret": {"name": "s", "items": [{"key": "k", "path": "../x"}]}}]}},
            "projected.sources[1].secret.items[0].path",
        ),
        (
            {"projected": {"sources": [{"downwardAPI": {"items": [{"path": "/x"}]}}]}},
            "projected.sources[0].downwardAPI.items[0].path",
        ),
        (
            {"projected": {"sources": [{"serviceAccountToken": {"path": "a/../../x"}}]}},
            "projected.sources[0].serviceAccountToken.path",
        ),
        ({"projected": {"sources": [{"serviceAccountToken": {}}]}}, "projected.sources[0].serviceAccountToken.path"),
        *(
            (
                {"projected": {"sources": [{"podCertificate": {**_CERTIFICATE, field: value}}]}},
                f"projected.sources[0].podCertificate.{field}",
            )
            for field, value in (
                ("signerName", ""),
                ("keyType", ""),
                ("keyType", "DSA"),
                ("maxExpirationSeconds", 3599),
                ("maxExpirationSeconds", 91 * 24 * 3600 + 1),
                ("credentialBundlePath", ""),
                ("credentialBundlePath", "../x"),
                ("keyPath", "..k"),
            )
        ),
    ],
)
def test_files_of_volumes_have_names_and_modes_that_a_node_makes(volume: Object, field: str) -> None:
    with pytest.raises(InvalidObject) as caught:
        made(PODS, pod(volumes=[{"name": "v", **volume}]))
    causes = caught.value.status()["details"]["causes"]
    assert [cause["field"] for cause in causes] == [f"spec.volumes[0].{field}"]


def test_a_pod_has_a_bounded_number_of_tokens() -> None:
    def volume(name: str, many: int) -> Object:
        return {
            "name": name,
            "projected": {"sources": [{"serviceAccountToken": {"path": f"{n}"}} for n in range(many)]},
        }

    made(PODS, pod(volumes=[volume("a", 40), volume("b", MAX_POD_TOKENS - 40)]))
    with pytest.raises(InvalidObject, match="serviceAccountToken: Too many: 65: must have at most 64 items"):
        made(PODS, pod(volumes=[volume("a", 40), volume("b", MAX_POD_TOKENS - 39)]))


def test_the_message_is_the_one_of_kubernetes() -> None:
    with pytest.raises(InvalidObject) as caught:
        made(DEPLOYMENTS, deployment(selector={"matchLabels": {"a": "c"}}))
    assert str(caught.value) == (
        'Deployment.apps "x" is invalid: spec.template.metadata.labels: Invalid value: "{\\"a\\":\\"b\\"}": '
        "`selector` does not match template `labels`"
    )


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(InvalidObject, match=r"is invalid: \[spec.containers\[0\].name: Required value, spec"):
        made(PODS, {"spec": {"containers": [{}]}})


@pytest.mark.parametrize(
    "obj",
    [
        pod(),
        pod(
            {"volumeMounts": [{"name": "v", "mountPath": "/etc/app"}], "env": [{"name": "A", "value": ""}]},
            volumes=[VOLUME],
        ),
        pod({"ports": [{"containerPort": 80, "name": "http"}], "readinessProbe": {"httpGet": {"port": "http"}}}),
        pod({"resources": {"limits": {"cpu": 1, "memory": "64Mi"}, "requests": {"cpu": "0.5"}}}),
        pod(tolerations=[{"operator": "Exists"}], nodeSelector={"kubernetes.io/arch": "arm64"}, hostNetwork=True),
        pod(initContainers=[{"name": "i", "image": "b"}], volumes=[{"name": "v"}], dnsPolicy=None),
    ],
)
def test_good_pods_pass(obj: Object) -> None:
    assert made(PODS, obj)["spec"]["containers"]


def test_pod_defaults_are_those_of_kubernetes() -> None:
    spec = made(
        PODS, pod({"image": "nginx", "readinessProbe": {"httpGet": {"port": 80}}}, volumes=[VOLUME, {"name": "e"}])
    )["spec"]
    assert spec["restartPolicy"] == "Always" and spec["terminationGracePeriodSeconds"] == 30
    assert spec["dnsPolicy"] == "ClusterFirst" and spec["schedulerName"] == "default-scheduler"
    assert spec["containers"][0]["imagePullPolicy"] == "Always"
    assert spec["containers"][0]["readinessProbe"]["periodSeconds"] == 10
    assert spec["volumes"] == [
        {"name": "v", "configMap": {"name": "c", "defaultMode": 420}},
        {"name": "e", "emptyDir": {}},
    ]


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1.25", "IfNotPresent"),
        ("registry:5000/nginx", "Always"),
        ("registry:5000/nginx:1", "IfNotPresent"),
        ("nginx@sha256:" + "0" * 64, "IfNotPresent"),
    ],
)
def test_the_pull_policy_follows_the_tag(image: str, policy: str) -> None:
    assert defaults.image_pull_policy(image) == policy


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}, "Burstable"),
    ],
)
def test_quality_of_service_follows_the_resources(resources: Object, expected: str) -> None:
    assert made(PODS, pod({"resources": resources}))["status"]["qosClass"] == expected


def test_secrets_take_plain_text_and_keep_base64() -> None:
    secret = made(SECRETS, {"stringData": {"a": "text"}})
    assert secret["data"] == {"a": base64.b64encode(b"text").decode()} and "stringData" not in secret
    assert secret["type"] == "Opaque"


@pytest.mark.parametrize(
    ("change", "allowed"),
    [
        ({"containers": [{"name": "c", "image": "new"}]}, True),
        ({"activeDeadlineSeconds": 5}, True),
        ({"tolerations": [{"operator": "Exists"}]}, True),
        ({"nodeName": "edge1"}, True),
        ({"restartPolicy": "Never"}, False),
        ({"containers": [{"name": "d", "image": "i"}]}, False),
    ],
)
def test_a_pods_spec_is_almost_fixed(change: Object, allowed: bool) -> None:
    old = made(PODS, pod())
    new = copy.deepcopy(old)
    if "containers" in change:
        new["spec"]["containers"][0] |= change["containers"][0]
    else:
        new["spec"] |= change
    if allowed:
        validation_kinds.update(Resources(BUILT_IN).row_of(PODS), new, old)
    else:
        with pytest.raises(InvalidObject, match="pod updates may not change fields other than"):
            validation_kinds.update(Resources(BUILT_IN).row_of(PODS), new, old)


@pytest.mark.parametrize(
    ("resource", "old", "change", "message"),
    [
        (DEPLOYMENTS, deployment(), {"spec": {"selector": {"matchLabels": {"a": "z"}}}}, "field is immutable"),
        (SERVICES, service(clusterIP="10.96.0.7"), {"spec": {"clusterIP": "10.96.0.8"}}, "may not change once set"),
        (CONFIGMAPS, {"immutable": True, "data": {"a": "1"}}, {"data": {"a": "2"}}, "immutable"),
        (SECRETS, {"data": {}}, {"type": "kubernetes.io/tls"}, "field is immutable"),
    ],
)
def test_what_may_not_change(resource: Resource, old: Object, change: Object, message: str) -> None:
    before = made(resource, old)
    after = copy.deepcopy(before)
    for key, value in change.items():
        after[key] = {**after[key], **value} if isinstance(value, dict) and isinstance(after.get(key), dict) else value
    with pytest.raises(InvalidObject, match=message):
        validation_kinds.update(Resources(BUILT_IN).row_of(resource), after, before)


def test_unknown_fields_are_found_at_any_depth() -> None:
    _, unknown = schema.check("Pod", {**pod({"imagge": "x"}), "extra": 1})
    assert unknown == ["spec.containers[0].imagge", "extra"]


def test_every_type_that_the_schema_names_exists() -> None:
    plain = {"str", "int", "long", "num", "bool", "time", "any", "quantity", "intorstr"}
    for fields in schema.types().values():
        for field in fields.values():
            assert field.type in plain or field.type in schema.types(), field
            if field.merge_key and field.type in schema.types():
                assert field.merge_key in schema.types()[field.type]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["name", "image", "spec", "containers", "volumes", "template", "selector", "metadata", "labels", "ports", "env",
             "strategy", "rollingUpdate", "matchLabels", "data", "status", "resources", "limits", "port", "taints", "type"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=20,
)  # fmt: skip


@given(JSON, JSON, st.sampled_from([PODS, DEPLOYMENTS, SERVICES, CONFIGMAPS, SECRETS, NODES]))
def test_no_value_breaks_the_checks(spec: Any, more: Any, resource: Resource) -> None:
    obj = {"metadata": {"name": "x"}, "spec": spec, "data": more, "template": more}
    for sent in (obj, more, deployment(**spec) if isinstance(spec, dict) else obj):
        try:
            core.create(
                Resources(BUILT_IN).row_of(resource),
                "default",
                sent,
                core.WriteOptions(),
                now=0.0,
                randbytes=lambda n: b"\1" * n,
            )
        except KubeEdgeError as exc:
            assert str(exc)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (pod({"terminationMessagePath": "relative"}), "spec.containers[0].terminationMessagePath"),
        (pod({"securityContext": {"runAsUser": -1}}), "spec.containers[0].securityContext.runAsUser"),
        (
            pod(initContainers=[{"name": "i", "image": "i", "restartPolicy": "Sometimes"}]),
            "spec.initContainers[0].restartPolicy",
        ),
        (
            pod(securityContext={"seccompProfile": {"type": "Odd"}}),
            "spec.containers[0].securityContext.seccompProfile.type",
        ),
        (pod(dnsConfig={"options": [{"name": "a b"}]}), "spec.dnsConfig.options[0]"),
        (pod(hostAliases=[{"ip": "nowhere"}]), "spec.hostAliases[0].ip"),
        (pod(subdomain="a.b"), "spec.subdomain"),
        (pod(os={"name": "windows"}), "spec.os.name"),
        (
            pod(securityContext={"sysctls": [{"name": "kernel.msgmax", "value": "65536"}]}),
            "spec.securityContext.sysctls[0].name",
        ),
        (pod(hostnameOverride="a.b", hostNetwork=True), "spec.hostnameOverride"),
        (pod(hostnameOverride="a.b", setHostnameAsFQDN=True), "spec.hostnameOverride"),
        (pod(hostnameOverride="a" * 65), "spec.hostnameOverride"),
    ],
)
def test_what_every_node_would_refuse_is_refused_here(spec: Object, field: str) -> None:
    """Otherwise a ReplicaSet makes pods that fail, and more of them, without end."""
    with pytest.raises(InvalidObject) as caught:
        made(PODS, spec)
    assert f"{field}: Forbidden: no node can run it" in str(caught.value)
    with pytest.raises(InvalidObject) as caught:
        made(DEPLOYMENTS, deployment(template={"metadata": {"labels": {"a": "b"}}, **spec}))
    assert f"spec.template.{field}: Forbidden" in str(caught.value)


@pytest.mark.parametrize(
    "spec",
    [
        pod({"livenessProbe": {"grpc": {"port": 1}}}),
        pod(initContainers=[{"name": "i", "image": "i", "restartPolicy": "Always"}]),
        pod(volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]),  # waits on the node
        pod(hostUsers=False),
    ],
)
def test_what_a_node_runs_or_waits_with_is_accepted(spec: Object) -> None:
    assert made(PODS, spec)["spec"]


@pytest.mark.parametrize(
    ("tolerations", "allowed"),
    [
        ([{"key": "a", "operator": "Exists", "effect": "NoExecute"}], True),
        (
            [{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}, {"operator": "Exists"}],
            True,
        ),
        ([{"key": "a", "operator": "Exists", "effect": "NoSchedule"}], False),
        ([{"operator": "Exists"}], False),
        ([], False),
    ],
)
def test_of_a_toleration_its_end_alone_may_change(tolerations: list[Object], allowed: bool) -> None:
    first = {"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
    old = made(PODS, pod(tolerations=[first]))
    new = copy.deepcopy(old)
    new["spec"]["tolerations"] = tolerations
    if allowed:
        validation_kinds.update(Resources(BUILT_IN).row_of(PODS), new, old)
    else:
        with pytest.raises(InvalidObject, match="except its tolerationSeconds"):
            validation_kinds.update(Resources(BUILT_IN).row_of(PODS), new, old)
