"""What of a container is more than its command: restart rules, hooks, profiles, mounts; good and bad."""

from __future__ import annotations

from typing import Any

import pytest

from kubeedge.api.json_fields import UnknownValue
from kubeedge.api.pod import Hook, Probe, RestartRule, Unsupported
from kubeedge.errors import Invalid
from tests.unit.appengine.world import container, pod


def rules(*items: Any, policy: str = "Never") -> dict[str, Any]:
    return container(restartPolicy=policy, restartPolicyRules=list(items))


def rule(*values: Any, operator: str = "In", action: str = "Restart") -> dict[str, Any]:
    return {"action": action, "exitCodes": {"operator": operator, "values": list(values)}}


def test_restart_rules_say_after_which_exits() -> None:
    (c,) = pod(containers=[rules(rule(42, 43), rule(1, operator="NotIn"))]).containers
    assert c.restart_rules == (RestartRule(frozenset({42, 43}), True), RestartRule(frozenset({1}), False))
    assert [c.restart_rules[0].matches(n) for n in (42, 1)] == [True, False]
    assert [c.restart_rules[1].matches(n) for n in (1, 2)] == [False, True]


def test_hooks_of_all_kinds_are_read() -> None:
    def hook(handler: dict[str, Any]) -> Hook | None:
        return pod(containers=[container(lifecycle={"preStop": handler})]).containers[0].pre_stop

    assert hook({"sleep": {"seconds": 3}}) == Hook(None, 3.0)
    request = {"httpGet": {"port": 80, "path": "/bye", "httpHeaders": [{"name": "A", "value": "b"}]}}
    assert hook(request) == Hook(Probe("http", path="/bye", port=80, headers=(("A", "b"),)))
    assert hook({"tcpSocket": {"port": "http"}}) == Hook(Probe("tcp", port="http"))
    assert hook({}) is None


def test_namespaces_and_names_of_a_pod_are_read() -> None:
    p = pod(
        hostPID=True, hostIPC=True, setHostnameAsFQDN=True, hostname="web-0", subdomain="web", activeDeadlineSeconds=5,
        securityContext={"supplementalGroupsPolicy": "Strict", "sysctls": [
            {"name": "net/ipv4/tcp_syncookies", "value": "0"}]},
        metadata={"generation": 3},
    )  # fmt: skip
    assert (p.host_pid, p.host_ipc, p.strict_groups, p.active_deadline, p.generation) == (True, True, True, 5.0, 3)
    assert p.kernel_name == "web-0.web.default.svc.cluster.local" and p.hostname == "web-0"
    assert p.sysctls == {"net.ipv4.tcp_syncookies": "0"}
    assert pod(subdomain="web").kernel_name == "web"


def test_an_ephemeral_container_names_whom_it_looks_at() -> None:
    p = pod(ephemeralContainers=[container("debug", targetContainerName="main", stdin=True, tty=True)])
    (c,) = p.ephemeral_containers
    assert c.is_ephemeral and c.target == "main" and p.all_containers[-1] is c


def test_image_volumes_are_mounted_by_the_runtime() -> None:
    p = pod(
        volumes=[{"name": "v", "image": {"reference": "demo:2", "pullPolicy": "Never"}}, {"name": "e", "emptyDir": {}}],
        containers=[container(volumeMounts=[{"name": n, "mountPath": f"/{n}"} for n in "ve"])],
    )
    assert [p.image_of(m) for m in p.containers[0].mounts] == ["demo:2", None]
    assert p.unsupported == ()


SECURITY = "spec.containers[0].securityContext"


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"containers": [rules(rule(1), policy="")]}, "spec.containers[0].restartPolicy"),
        ({"initContainers": [rules(rule(1), policy="Always")]}, "spec.initContainers[0].restartPolicyRules"),
        ({"containers": [rules(*[rule(1)] * 21)]}, "spec.containers[0].restartPolicyRules"),
        ({"containers": [rules(rule())]}, "spec.containers[0].restartPolicyRules[0].exitCodes.values"),
        ({"containers": [rules(rule(256))]}, "spec.containers[0].restartPolicyRules[0].exitCodes.values"),
        ({"containers": [rules(rule(True))]}, "spec.containers[0].restartPolicyRules[0].exitCodes.values"),
        ({"containers": [rules(rule(1, operator=""))]}, "spec.containers[0].restartPolicyRules[0].exitCodes.operator"),
        ({"containers": [container(lifecycle={"stopSignal": "SIGNOTHING"})]}, "spec.containers[0].lifecycle.stopSignal"),
        ({"containers": [container(lifecycle={"stopSignal": "TERM"})]}, "spec.containers[0].lifecycle.stopSignal"),
        ({"containers": [container(lifecycle={"preStop": {"grpc": {"port": 1}}})]}, "spec.containers[0].lifecycle.preStop"),
        ({"containers": [container(lifecycle={"preStop": {"sleep": {"seconds": -1}}})]},
         "spec.containers[0].lifecycle.preStop.sleep.seconds"),
        ({"containers": [container(resizePolicy=[{"resourceName": "gpu"}])]},
         "spec.containers[0].resizePolicy[0].resourceName"),
        ({"containers": [container(securityContext={"appArmorProfile": {"type": "Localhost"}})]},
         f"{SECURITY}.appArmorProfile.localhostProfile"),
        ({"containers": [container(securityContext={"appArmorProfile": {"type": "Localhost", "localhostProfile": "a\n"}})]},
         f"{SECURITY}.appArmorProfile.localhostProfile"),
        ({"volumes": [{"name": "v", "emptyDir": {}}], "containers": [container(volumeMounts=[
            {"name": "v", "mountPath": "/v", "mountPropagation": "Bidirectional"}])]}, "spec.containers[0].volumeMounts"),
        ({"volumes": [{"name": "v", "emptyDir": {}}], "containers": [container(volumeMounts=[
            {"name": "v", "mountPath": "/v", "recursiveReadOnly": "Enabled"}])]},
         "spec.containers[0].volumeMounts[0].recursiveReadOnly"),
        ({"volumes": [{"name": "v", "image": {}}]}, "spec.volumes[0].image.reference"),
        ({"volumes": [{"name": "v", "image": {"reference": "a", "pullPolicy": "Now"}}]}, "spec.volumes[0].image.pullPolicy"),
        ({"volumes": [{"name": "v", "emptyDir": {"medium": "Disk"}}]}, "spec.volumes[0].emptyDir.medium"),
        ({"volumes": [{"name": "v", "emptyDir": {"medium": ["x"]}}]}, "spec.volumes[0].emptyDir.medium"),
        ({"activeDeadlineSeconds": 0}, "spec.activeDeadlineSeconds"),
        ({"activeDeadlineSeconds": True}, "spec.activeDeadlineSeconds"),
        ({"shareProcessNamespace": True, "hostPID": True}, "spec.shareProcessNamespace"),
        ({"ephemeralContainers": [container("d", targetContainerName="other")]}, "spec.ephemeralContainers"),
        ({"ephemeralContainers": [container("d", ports=[{"containerPort": 1}])]}, "spec.ephemeralContainers[0]"),
        ({"securityContext": {"sysctls": [{"name": "kernel/../x", "value": "1"}]}}, "spec.securityContext.sysctls[0].name"),
        ({"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1\n"}]}},
         "spec.securityContext.sysctls[0].value"),
        ({"hostNetwork": True, "securityContext": {"sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}]}},
         "spec.securityContext.sysctls[0].name"),
        ({"hostIPC": True, "securityContext": {"sysctls": [{"name": "kernel.shm_rmid_forced", "value": "1"}]}},
         "spec.securityContext.sysctls[0].name"),
        ({"containers": [container(securityContext={"procMount": "Unmasked"})]}, "spec.hostUsers"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_with_its_path(spec: dict[str, Any], path: str) -> None:
    with pytest.raises(Invalid) as caught:
        pod(**spec)
    assert not isinstance(caught.value, Unsupported) and caught.value.path == path


@pytest.mark.parametrize(
    "spec",
    [
        {"volumes": [{"name": "v", "emptyDir": {"medium": "HugePages-2Mi"}}]},
        {"containers": [rules(rule(1, action="RestartAllContainers"))]},
    ],
)
def test_what_this_node_cannot_do_makes_the_pod_wait(spec: dict[str, Any]) -> None:
    with pytest.raises(Unsupported):
        pod(**spec)


@pytest.mark.parametrize(
    "spec",
    [
        {"restartPolicy": "OnTuesdays"},
        {"securityContext": {"supplementalGroupsPolicy": "Some"}},
        {"securityContext": {"seccompProfile": {"type": "Learned"}}},
        {"containers": [container(imagePullPolicy="IfNewer")]},
        {"containers": [container(terminationMessagePolicy="Stream")]},
        {"containers": [container(envFrom=[{"newRef": {"name": "a"}}])]},
        {"containers": [container(livenessProbe={"newAction": {}, "periodSeconds": 3})]},
        {"containers": [container(lifecycle={"preStop": {"newAction": {}}})]},
        {"containers": [container(ports=[{"containerPort": 1, "protocol": "QUIC"}])]},
        {"volumes": [{"name": "v", "emptyDir": {"medium": "Persistent"}}]},
    ],
)
def test_a_value_that_is_newer_than_this_agent_is_no_mistake_of_the_pod(spec: dict[str, Any]) -> None:
    """The API has accepted it. A pod that has Failed for it would be made again by its controller, without end."""
    with pytest.raises(UnknownValue) as caught:
        pod(**spec)
    assert "is none of" in str(caught.value) and caught.value.path.startswith("spec.")


@pytest.mark.parametrize(
    ("requests", "milli"), [({}, 1500), ({"cpu": "0"}, 0), ({"cpu": "200m"}, 200), ({"memory": "1Mi"}, 1500)]
)
def test_a_cpu_request_of_zero_is_not_the_absence_of_one(requests: dict[str, str], milli: int) -> None:
    (c,) = pod(containers=[container(resources={"limits": {"cpu": "1500m"}, "requests": requests})]).containers
    assert c.resources.cpu_request == milli
