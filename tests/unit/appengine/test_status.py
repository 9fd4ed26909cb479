"""PodStatus as kubectl and controllers read it."""

from __future__ import annotations

from typing import Any

import pytest

from kubeedge.api.meta import timestamp
from kubeedge.api.pod import Pod
from kubeedge.api.pod_parser import parse
from kubeedge.appengine import core
from kubeedge.appengine.core import ContainerObservation, PodObservation
from kubeedge.appengine.status import back_offs, failed_status, pod_status, qos_class
from tests.unit.appengine.world import container, exited, manifest, observed, pod, running

NOON = 1_800_000_000.0  # 2027-01-15T08:00:00Z


def status(p: Pod, seen: PodObservation, now: float = NOON, previous: dict[str, Any] | None = None) -> dict[str, Any]:
    return pod_status(p, seen, scheme="embedded", host_ip="100.64.0.1", previous=previous, now=now)


def conditions(of: dict[str, Any]) -> dict[str, str]:
    return {c["type"]: c["status"] for c in of["conditions"]}


def main(of: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = of["containerStatuses"][0]
    return entry


def test_a_running_pod_is_ready_and_has_its_addresses() -> None:
    s = status(pod(), observed(main=running(NOON - 5)))
    assert (s["phase"], s["podIP"], s["podIPs"], s["hostIP"]) == (
        "Running", "10.244.1.2", [{"ip": "10.244.1.2"}], "100.64.0.1",
    )  # fmt: skip
    assert set(conditions(s).values()) == {"True"}
    assert set(conditions(s)) == {
        "PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled",
    }  # fmt: skip
    assert main(s)["state"] == {"running": {"startedAt": timestamp(NOON - 5)}}
    assert main(s)["containerID"] == "embedded://id0" and main(s)["imageID"] == "sha256:1"
    assert main(s)["ready"] and main(s)["started"] and main(s)["restartCount"] == 0


def test_a_new_pod_is_pending_and_its_containers_are_creating() -> None:
    s = status(pod(), PodObservation("u1"))
    assert s["phase"] == "Pending" and "podIP" not in s
    assert main(s)["state"] == {"waiting": {"reason": "ContainerCreating"}}
    assert conditions(s)["PodReadyToStartContainers"] == "False"


def test_containers_wait_for_init_containers() -> None:
    s = status(pod(initContainers=[container("i")]), observed(i=running(NOON)))
    assert main(s)["state"]["waiting"]["reason"] == "PodInitializing"
    assert conditions(s)["Initialized"] == "False"
    init = s["initContainerStatuses"][0]
    assert "running" in init["state"] and not init["ready"]
    both = status(pod(initContainers=[container("i"), container("j")]), observed(i=running(NOON)))
    assert both["initContainerStatuses"][1]["state"] == {"waiting": {"reason": "PodInitializing"}}  # as the kubelet
    messages = {c["type"]: c.get("message") for c in both["conditions"]}
    assert messages["Initialized"] == "containers with incomplete status: [i j]"
    done = status(pod(initContainers=[container("i")]), observed(i=exited(0, NOON), main=running(NOON)))
    assert done["initContainerStatuses"][0]["ready"] and conditions(done)["Initialized"] == "True"
    assert done["initContainerStatuses"][0]["state"]["terminated"]["reason"] == "Completed"


@pytest.mark.parametrize(
    ("policy", "code", "crashes", "reason"),
    [
        ("Always", 1, 2, "CrashLoopBackOff"),
        ("Always", 0, 2, "CrashLoopBackOff"),  # as the kubelet: a container that must run and ends is in a loop, too
        ("OnFailure", 1, 3, "CrashLoopBackOff"),
        ("Always", 1, 1, None),
        ("OnFailure", 0, 3, None),
        ("Never", 1, 1, None),
    ],
)
def test_a_container_in_back_off_waits_and_says_how_it_ended(
    policy: str, code: int, crashes: int, reason: str | None
) -> None:
    entry = main(status(pod(restartPolicy=policy), observed(main=exited(code, NOON, crashes=crashes))))
    if reason is None:
        assert entry["state"]["terminated"]["exitCode"] == code and entry["lastState"] == {}
    else:
        assert entry["state"]["waiting"]["reason"] == reason
        assert entry["lastState"]["terminated"]["exitCode"] == code
    assert not entry["ready"]


def test_each_back_off_is_an_event_once_when_it_begins() -> None:
    def seen(state: core.ContainerObservation) -> dict[str, Any]:
        return status(pod(), observed(main=state))

    runs, crashed = seen(running(NOON)), seen(exited(1, NOON, crashes=2))
    event = ("Warning", "Back-off restarting failed container main in pod p_default(u)", "main")
    assert list(back_offs("p_default(u)", runs, crashed)) == [event] == list(back_offs("p_default(u)", None, crashed))
    assert list(back_offs("p_default(u)", crashed, crashed)) == list(back_offs("p_default(u)", crashed, runs)) == []
    state = core.ContainerObservation()
    core.note_failure(state, reason="ErrImagePull", message="no such image", now=0.0)
    failed = seen(state)
    assert list(back_offs("p", None, failed)) == []
    core.note_failure(state, reason="ErrImagePull", message="no such image", now=10.0)
    ((kind, message, name),) = back_offs("p", failed, seen(state))
    assert (kind, name) == ("Normal", "main") and message.startswith('Back-off pulling image "')


def test_a_restarted_container_shows_the_run_before() -> None:
    state = exited(137, NOON)
    state.reason = "OOMKilled"
    core.note_start(state, attempt=1, id="id1", pid=1, image="x", image_id="", wall=NOON + 1, now=NOON + 1)
    entry = main(status(pod(), observed(main=state)))
    assert entry["restartCount"] == 1
    assert entry["lastState"]["terminated"] == {
        "exitCode": 137,
        "reason": "OOMKilled",
        "startedAt": timestamp(NOON - 1),
        "finishedAt": timestamp(NOON),
        "containerID": "embedded://id0",
    }


def test_why_a_container_cannot_start_is_said() -> None:
    state = ContainerObservation()
    core.note_failure(state, reason="ErrImagePull", message="no such image", now=NOON)
    s = status(pod(), observed(main=state))
    assert main(s)["state"] == {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}
    assert s["phase"] == "Pending"


def test_a_finished_pod_is_not_ready_because_it_is_complete() -> None:
    s = status(pod(restartPolicy="Never"), observed(main=exited(0, NOON)))
    ready = next(c for c in s["conditions"] if c["type"] == "Ready")
    assert (s["phase"], ready["status"], ready["reason"]) == ("Succeeded", "False", "PodCompleted")


def test_a_condition_keeps_its_transition_time_until_it_changes() -> None:
    first = status(pod(), observed(main=running(NOON)), NOON)
    same = status(pod(), observed(main=running(NOON)), NOON + 60, first)
    assert same == first
    state = running(NOON)
    state.ready = False
    later = status(pod(), observed(main=state), NOON + 120, same)
    times = {c["type"]: c["lastTransitionTime"] for c in later["conditions"]}
    assert times["Ready"] == timestamp(NOON + 120) and times["PodScheduled"] == timestamp(NOON)


def test_a_pod_on_the_network_of_the_host_has_its_address() -> None:
    seen = PodObservation("u1", sandbox=True, containers={"main": running(NOON)})
    assert status(pod(hostNetwork=True), seen)["podIP"] == "100.64.0.1"


def test_a_sandbox_that_cannot_be_made_is_said() -> None:
    seen = PodObservation("u1", sandbox_error="no space left on device")
    assert status(pod(), seen)["message"] == "no space left on device"


def test_a_pod_that_cannot_be_understood_has_failed() -> None:
    s = failed_status("InvalidPod", "spec.containers: required", host_ip="100.64.0.1", now=NOON)
    assert (s["phase"], s["reason"], s["message"]) == ("Failed", "InvalidPod", "spec.containers: required")


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "100m"}}, "Burstable"),
        ({"limits": {"memory": "1Mi"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Mi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "2Mi"}, "requests": {"cpu": "1", "memory": "1Mi"}}, "Burstable"),
    ],
)
def test_the_qos_class_follows_from_requests_and_limits(resources: dict[str, Any], expected: str) -> None:
    assert qos_class(pod(containers=[container(resources=resources)])) == expected


def gated(*said: str) -> Pod:
    gates = [{"conditionType": f"example.com/{n}"} for n in range(2)]
    conditions = [{"type": f"example.com/{n}", "status": status} for n, status in enumerate(said)]
    return parse({**manifest(readinessGates=gates), "status": {"conditions": conditions}})


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            (),
            'corresponding condition of pod readiness gate "example.com/0" does not exist., '
            'corresponding condition of pod readiness gate "example.com/1" does not exist.',
        ),
        (("True",), 'corresponding condition of pod readiness gate "example.com/1" does not exist.'),
        (("False", "True"), 'the status of pod readiness gate "example.com/0" is not "True", but False'),
    ],
)
def test_a_pod_is_not_ready_before_its_readiness_gates_are_though_its_containers_are(
    said: tuple[str, ...], message: str
) -> None:
    s = status(gated(*said), observed(main=running(NOON)))
    ready = next(c for c in s["conditions"] if c["type"] == "Ready")
    assert (ready["status"], ready["reason"], ready["message"]) == ("False", "ReadinessGatesNotReady", message)
    assert conditions(s)["ContainersReady"] == "True"


def test_it_is_ready_with_them_and_with_its_containers() -> None:
    open_gates = gated("True", "True")
    assert conditions(status(open_gates, observed(main=running(NOON))))["Ready"] == "True"
    starting = status(open_gates, observed(main=ContainerObservation()))
    ready = next(c for c in starting["conditions"] if c["type"] == "Ready")
    assert ready["reason"] == "ContainersNotReady"


def test_addresses_of_both_versions_are_listed_and_the_first_ones_are_of_ipv4() -> None:
    seen = PodObservation("u", ip="10.244.1.2", ipv6="fd00:10:244:1::2", sandbox=True)
    hosts = "100.64.0.1,fd00:100:64::1"
    s = pod_status(pod(), seen, scheme="embedded", host_ip=hosts, previous=None, now=NOON)
    assert (s["podIP"], s["hostIP"]) == ("10.244.1.2", "100.64.0.1")
    assert s["podIPs"] == [{"ip": "10.244.1.2"}, {"ip": "fd00:10:244:1::2"}]
    assert s["hostIPs"] == [{"ip": "100.64.0.1"}, {"ip": "fd00:100:64::1"}]
    on_node = pod_status(
        pod(hostNetwork=True),
        PodObservation("u", sandbox=True),
        scheme="embedded",
        host_ip=hosts,
        previous=None,
        now=NOON,
    )
    assert on_node["podIPs"] == on_node["hostIPs"]
    assert failed_status("InvalidPod", "", host_ip=hosts, now=NOON)["hostIP"] == "100.64.0.1"
