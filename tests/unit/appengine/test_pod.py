"""Pods from anybody: what is understood, what is refused and where, what is said to be without effect."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.api.pod import Hook, NotAdmitted, Probe
from kubeedge.api.pod_parser import parse
from kubeedge.errors import Invalid
from tests.unit.appengine.world import container, manifest, pod


def test_defaults_are_those_of_kubernetes() -> None:
    p = pod()
    (c,) = p.containers
    assert (p.restart_policy, p.grace, p.hostname, p.service_account) == ("Always", 30.0, "web", "default")
    assert (c.pull_policy, c.termination_message_path) == ("IfNotPresent", "/dev/termination-log")
    assert c.security.escalation and not c.security.privileged and not p.unsupported


@pytest.mark.parametrize(
    ("image", "policy"),
    [("demo:1", "IfNotPresent"), ("demo", "Always"), ("demo:latest", "Always"), ("h:5000/demo", "Always"),
     ("demo@sha256:" + "0" * 64, "IfNotPresent")],
)  # fmt: skip
def test_the_pull_policy_follows_from_the_tag(image: str, policy: str) -> None:
    assert pod(containers=[{"name": "a", "image": image}]).containers[0].pull_policy == policy


def test_the_pod_s_security_context_is_the_default_of_its_containers() -> None:
    p = pod(
        securityContext={"runAsUser": 7, "runAsNonRoot": True, "fsGroup": 9, "supplementalGroups": [11]},
        containers=[container("a"), container("b", securityContext={"runAsUser": 8})],
    )
    assert [c.security.user for c in p.containers] == [7, 8]
    assert all(c.security.non_root for c in p.containers)
    assert (p.fs_group, p.groups) == (9, (11,))


def test_a_deletion_has_its_own_grace_period() -> None:
    deleting = {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0}
    p = pod(terminationGracePeriodSeconds=60, metadata=deleting)
    assert p.deleting and p.grace == 0.0


def test_probes_and_hooks_and_ports_are_read() -> None:
    p = pod(
        containers=[
            container(
                livenessProbe={"httpGet": {"path": "/h", "port": "http"}, "periodSeconds": 3},
                readinessProbe={"tcpSocket": {"port": 80}},
                startupProbe={"exec": {"command": ["true"]}, "failureThreshold": 30},
                lifecycle={"preStop": {"exec": {"command": ["bye"]}}, "postStart": {"exec": {"command": ["hi"]}}},
                ports=[{"name": "http", "containerPort": 80, "hostPort": 8080, "hostIP": "127.0.0.1"}],
            )
        ]
    )
    (c,) = p.containers
    assert c.liveness and (c.liveness.kind, c.liveness.port, c.liveness.period) == ("http", "http", 3.0)
    assert c.readiness and (c.readiness.kind, c.readiness.port) == ("tcp", 80)
    assert c.startup and (c.startup.kind, c.startup.failure_threshold) == ("exec", 30)
    assert (c.pre_stop, c.post_start) == (Hook(Probe("exec", ("bye",))), Hook(Probe("exec", ("hi",))))
    assert [(q.host, q.container, q.host_ip, q.protocol) for q in p.host_ports] == [(8080, 80, "127.0.0.1", "TCP")]
    assert pod(hostNetwork=True, containers=[container(ports=[{"containerPort": 1, "hostPort": 1}])]).host_ports == ()


def test_an_http_action_has_a_scheme() -> None:
    get = {"port": 443, "path": "/h", "scheme": "HTTPS"}
    (c,) = pod(
        containers=[container(livenessProbe={"httpGet": get}, lifecycle={"preStop": {"httpGet": get}})]
    ).containers
    assert c.liveness and (c.liveness.kind, c.liveness.tls, c.liveness.path) == ("http", True, "/h")
    assert c.pre_stop and c.pre_stop.action and c.pre_stop.action.tls
    (plain,) = pod(containers=[container(livenessProbe={"httpGet": {**get, "scheme": "HTTP"}})]).containers
    assert plain.liveness and not plain.liveness.tls


def test_a_pod_s_name_with_dots_is_its_hostname() -> None:
    """As with a kubelet; a Deployment of a name with dots makes such pods."""
    for name, hostname in (("web.shop-7c9-x2x", "web.shop-7c9-x2x"), ("a" * 62 + ".b", "a" * 62), ("a" * 70, "a" * 63)):
        assert pod(name).hostname == hostname
    with pytest.raises(Invalid):
        pod(hostname="web.shop")


@pytest.mark.parametrize("names", [{}, {"hostname": "other"}, {"hostname": "other", "subdomain": "web"}])
def test_hostname_override_is_the_whole_name_of_the_pod(names: dict[str, str]) -> None:
    p = pod(hostnameOverride="override.example.host", **names)
    assert (p.hostname, p.kernel_name, p.full_name) == ("override.example.host", "override.example.host", "")


@pytest.mark.parametrize(
    ("spec", "reason", "path"),
    [
        ({"os": {"name": "windows"}}, "PodOSNotSupported", "spec.os.name"),
        ({"os": {"name": "windows"}, "volumes": "odd"}, "PodOSNotSupported", "spec.os.name"),
        (
            {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}},
            "SysctlForbidden",
            "spec.securityContext.sysctls[0].name",
        ),
        (
            {"securityContext": {"sysctls": [{"name": "kernel/msgmax", "value": "1"}]}},
            "SysctlForbidden",
            "spec.securityContext.sysctls[0].name",
        ),
    ],
)
def test_what_no_node_of_this_kind_runs_is_not_admitted(spec: dict[str, Any], reason: str, path: str) -> None:
    with pytest.raises(NotAdmitted) as caught:
        pod(**spec)
    assert (caught.value.reason, caught.value.path) == (reason, path)
    assert pod(os={"name": "linux"}).unsupported == ()


def test_readiness_gates_have_what_others_say_of_them() -> None:
    gates = [{"conditionType": "example.com/a"}, {"conditionType": "example.com/b"}]
    spec = manifest(readinessGates=gates)
    assert parse(spec).readiness_gates == {"example.com/a": "", "example.com/b": ""}
    said = [{"type": "example.com/b", "status": "True"}, {"type": "Ready", "status": "True"}]
    p = parse({**spec, "status": {"conditions": said}})
    assert p.readiness_gates == {"example.com/a": "", "example.com/b": "True"} and p.unsupported == ()


def test_fields_without_effect_are_listed_with_their_path() -> None:
    p = pod(
        hostIPC=False,
        setHostnameAsFQDN=False,
        resources={"limits": {"memory": "1Mi", "example.com/thing": "1"}},
        securityContext={"seccompProfile": {"type": "RuntimeDefault"}},
        containers=[
            container(
                lifecycle={"preStop": {"httpGet": {"port": 1, "protocol": "odd"}}},
                livenessProbe={"httpGet": {"port": 443, "scheme": "HTTPS"}},
                securityContext={"windowsOptions": {}},
            )
        ],
    )
    assert set(p.unsupported) == {
        "spec.resources.limits.example.com/thing",
        "spec.containers[0].lifecycle.preStop.httpGet.protocol",
        "spec.containers[0].securityContext.windowsOptions",
    }
    assert p.containers[0].liveness and p.containers[0].liveness.kind == "http"


def change(obj: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    changed: Any = copy.deepcopy(obj)
    at = changed
    *parents, last = [int(p) if p.isdigit() else p for p in path.split(".")]
    for part in parents:
        if isinstance(at, dict) and part not in at:
            at[part] = {}
        at = at[part]
    at[last] = value
    return changed


@pytest.mark.parametrize(
    ("path", "value"),
    [
        # names that become paths, arguments, lines of files
        ("metadata.name", "../../etc"),
        ("metadata.name", ""),
        ("metadata.uid", "../x"),
        ("metadata.uid", "a/b"),
        ("metadata.uid", ""),
        ("metadata.namespace", ".."),
        ("spec.hostname", "-F/etc/shadow"),
        ("spec.hostname", "a\nb"),
        ("spec.hostnameOverride", "a_b"),
        ("spec.hostnameOverride", "a\nb"),
        ("spec.hostnameOverride", "a" * 65),
        ("spec.os", "linux"),
        ("spec.readinessGates", ["a"]),
        ("spec.containers.0.name", "../../../tmp"),
        ("spec.containers.0.name", "A"),
        ("spec.containers.0.name", ""),
        ("spec.containers.0.image", ""),
        ("spec.containers.0.terminationMessagePath", "relative"),
        ("spec.containers.0.volumeMounts", [{"name": "v", "mountPath": "/a/../../b"}]),
        ("spec.containers.0.volumeMounts", [{"name": "v", "mountPath": "/"}]),
        ("spec.containers.0.volumeMounts", [{"name": "nowhere", "mountPath": "/a"}]),
        ("spec.containers.0.env", [{"name": "A=B", "value": "x"}]),
        ("spec.containers.0.env", [{"value": "x"}]),
        ("spec.volumes.0.name", "../v"),
        ("spec.volumes", [{"name": "v"}, {"name": "v"}]),
        ("spec.volumes", [{"name": "v", "nfs": {}}]),
        ("spec.hostAliases", [{"ip": "1.2.3.4\n5", "hostnames": []}]),
        ("spec.hostAliases", [{"ip": "1.2.3.4", "hostnames": ["a b"]}]),
        ("spec.dnsConfig", {"nameservers": ["not an address"]}),
        ("spec.dnsConfig", {"searches": ["a\noptions x"]}),
        # types and ranges
        ("spec.containers", []),
        ("spec.containers", None),
        ("spec.containers.0", "text"),
        ("spec.containers.0.command", "text"),
        ("spec.containers.0.command", [1]),
        ("spec.containers.0.imagePullPolicy", "Sometimes"),
        ("spec.containers.0.resources", {"limits": {"memory": "lots"}}),
        ("spec.containers.0.ports", [{"containerPort": 70000}]),
        ("spec.containers.0.ports", [{"containerPort": True}]),
        ("spec.containers.0.livenessProbe", {"grpc": {"port": "name"}}),
        ("spec.containers.0.livenessProbe", {"sleep": {"seconds": 1}}),
        ("spec.containers.0.livenessProbe", {"tcpSocket": {"port": 0}}),
        ("spec.containers.0.securityContext", {"runAsUser": -1}),
        ("spec.containers.0.securityContext", {"runAsUser": 2**40}),
        ("spec.restartPolicy", "Mostly"),
        ("spec.terminationGracePeriodSeconds", -1),
        ("spec.terminationGracePeriodSeconds", 10**12),
        ("spec.terminationGracePeriodSeconds", "soon"),
    ],
)
def test_what_breaks_a_rule_is_refused_with_its_path(path: str, value: Any) -> None:
    base = manifest(volumes=[{"name": "v", "emptyDir": {}}])
    with pytest.raises(Invalid) as caught:
        parse(change(base, path, value))
    assert caught.value.path


def test_two_containers_of_one_name_are_refused() -> None:
    with pytest.raises(Invalid, match="twice"):
        pod(initContainers=[container("a")], containers=[container("a")])


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_paths = st.sampled_from(
    "metadata spec spec.containers spec.containers.0 spec.initContainers spec.volumes spec.securityContext spec.hostAliases "
    "spec.dnsConfig spec.imagePullSecrets spec.containers.0.env spec.containers.0.envFrom spec.containers.0.volumeMounts "
    "spec.containers.0.ports spec.containers.0.resources spec.containers.0.lifecycle spec.containers.0.livenessProbe "
    "spec.containers.0.securityContext spec.containers.0.args metadata.labels metadata.deletionGracePeriodSeconds".split()
)


@given(path=_paths, value=_json)
def test_garbage_is_invalid_and_never_a_crash(path: str, value: Any) -> None:
    try:
        parse(change(manifest(), path, value))
    except Invalid:
        pass


@given(
    field=st.sampled_from(
        ["valueFrom", "httpGet", "exec", "tcpSocket", "capabilities", "preStop", "limits", "configMapRef", "secretRef"]
    ),
    where=st.sampled_from(["env", "envFrom", "livenessProbe", "securityContext", "lifecycle", "resources"]),
    value=_json,
)
def test_garbage_deeper_inside_is_invalid_and_never_a_crash(field: str, where: str, value: Any) -> None:
    item = {"name": "X", field: value}
    whole: Any = [item] if where in ("env", "envFrom") else item
    try:
        parse(change(manifest(), f"spec.containers.0.{where}", whole))
    except Invalid:
        pass
