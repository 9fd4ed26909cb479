"""Restart rules, deadlines, ephemeral containers, resizes: what happens next, at literal times."""

from __future__ import annotations

from typing import Any

from kubeedge.api.pod import Pod, ResourceRequirements
from kubeedge.appengine import core
from kubeedge.appengine.core import (
    FailPod,
    PodObservation,
    RemovePod,
    ResizeContainer,
    StartContainer,
    StopContainers,
    Wait,
    plan,
)
from kubeedge.appengine.resize import infeasible
from kubeedge.appengine.runtime.base import User
from kubeedge.appengine.status import pod_status, qos_class
from tests.unit.appengine.world import container, exited, observed, pod, running

IN_42 = [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]


def status(p: Pod, seen: PodObservation) -> dict[str, Any]:
    return pod_status(p, seen, scheme="embedded", host_ip="100.64.0.1", previous=None, now=0.0)


def conditions(of: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {c["type"]: c for c in of["conditions"]}


def test_a_restart_rule_that_matches_goes_before_the_policy() -> None:
    p = pod(restartPolicy="Never", containers=[container(restartPolicy="Never", restartPolicyRules=IN_42)])
    again = plan(p, observed(main=exited(42, 99.0)), 100.0)
    assert again == StartContainer(p.containers[0], 1)
    assert core.phase(p, observed(main=exited(42, 99.0))) == "Running"
    assert plan(p, observed(main=exited(1, 99.0)), 100.0) == Wait(None)
    assert core.phase(p, observed(main=exited(1, 99.0))) == "Failed"
    assert core.phase(p, observed(main=exited(0, 99.0))) == "Succeeded"


def test_an_init_container_has_rules_and_a_policy_of_its_own() -> None:
    init = container("i", restartPolicy="Never", restartPolicyRules=IN_42)
    p = pod(initContainers=[init])
    assert plan(p, observed(i=exited(42, 99.0)), 100.0) == StartContainer(p.init_containers[0], 1)
    assert core.phase(p, observed(i=exited(1, 99.0))) == "Failed"
    on_failure = pod(restartPolicy="Never", initContainers=[container("i", restartPolicy="OnFailure")])
    assert plan(on_failure, observed(i=exited(1, 99.0)), 100.0) == StartContainer(on_failure.init_containers[0], 1)


def test_a_pod_ends_when_it_was_active_for_too_long_and_stays_so() -> None:
    p, seen = pod(activeDeadlineSeconds=10), observed(main=running(100.0))
    assert plan(p, seen, 105.0) == Wait(None)  # it has not begun by the engine's account
    seen.active_since = 100.0
    assert plan(p, seen, 105.0) == Wait(110.0)
    failed = plan(p, seen, 110.0)
    assert isinstance(failed, FailPod) and failed.reason == "DeadlineExceeded"
    seen.evicted, seen.evicted_reason = failed.message, failed.reason
    assert plan(p, seen, 110.0) == StopContainers(("main",), 30.0, failed.message)
    core.note_exit(seen.of("main"), 137, "", "", wall=111.0, now=111.0)
    assert plan(p, seen, 1e6) == Wait(None)
    said = status(p, seen)
    assert (said["phase"], said["reason"]) == ("Failed", "DeadlineExceeded")


def test_the_deadline_passes_before_there_is_a_sandbox_too_and_not_when_all_is_over() -> None:
    p = pod(activeDeadlineSeconds=10, restartPolicy="Never")
    waiting = PodObservation("u1", retry_at=200.0, active_since=100.0)
    assert plan(p, waiting, 105.0) == Wait(110.0)
    assert isinstance(plan(p, waiting, 110.0), FailPod)
    over = observed(main=exited(0, 105.0))
    over.active_since = 100.0
    assert plan(p, over, 200.0) == Wait(None)


def test_sidecars_share_the_grace_period_of_the_pod() -> None:
    deleting = {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 10}
    p = pod(initContainers=[container("s1", restartPolicy="Always"), container("s2", restartPolicy="Always")],
            metadata=deleting)  # fmt: skip
    seen = observed(s1=running(1.0), s2=running(1.0), main=running(2.0))
    assert plan(p, seen, 100.0) == StopContainers(("main",), 10.0, "the pod is deleted")
    seen.ending_since = 100.0
    core.note_exit(seen.of("main"), 0, "", "", wall=104.0, now=104.0)
    assert plan(p, seen, 104.0) == StopContainers(("s2",), 6.0, "the pod is deleted")
    core.note_exit(seen.of("s2"), 0, "", "", wall=110.0, now=110.0)
    assert plan(p, seen, 110.0) == StopContainers(("s1",), core.LEAST_GRACE, "the pod is deleted")
    core.note_exit(seen.of("s1"), 0, "", "", wall=111.0, now=111.0)
    assert plan(p, seen, 111.0) == RemovePod()


def test_an_ephemeral_container_is_started_once_beside_the_others_and_counts_for_nothing() -> None:
    p = pod(ephemeralContainers=[container("debug", targetContainerName="main")])
    (debug,) = p.ephemeral_containers
    seen = observed(main=running(1.0))
    assert plan(p, seen, 2.0) == StartContainer(debug, 0)
    seen.containers["debug"] = exited(1, 3.0)
    assert plan(p, seen, 1e6) == Wait(None) and core.phase(p, seen) == "Running"
    said = status(p, seen)
    assert conditions(said)["Ready"]["status"] == "True"
    (entry,) = said["ephemeralContainerStatuses"]
    assert entry["state"]["terminated"]["exitCode"] == 1 and not entry["ready"]
    crashing = observed(main=exited(1, 1.0, crashes=5))
    assert plan(p, crashing, 2.0) == StartContainer(debug, 0), "also beside one that waits for its back-off"
    over = pod(restartPolicy="Never", ephemeralContainers=[container("debug")])
    left = observed(main=exited(0, 1.0), debug=running(1.0))
    assert plan(over, left, 2.0) == StopContainers(("debug",), 30.0, "the containers of the pod have ended")


def test_it_does_not_change_the_class_of_the_pod() -> None:
    same = {"limits": {"cpu": "1", "memory": "1Mi"}}
    assert qos_class(pod(containers=[container(resources=same)], ephemeralContainers=[container("d")])) == "Guaranteed"


def limits(cpu: str = "1", memory: str = "8Mi", **fields: Any) -> Pod:
    return pod(containers=[container(resources={"limits": {"cpu": cpu, "memory": memory}}, **fields)])


def test_other_resources_are_given_to_a_container_that_goes_on() -> None:
    before, after = limits(), limits(cpu="2")
    seen = observed(main=running(1.0))
    assert plan(after, seen, 2.0) == Wait(None), "what it has is not known: it is of an older agent"
    seen.of("main").resources = before.containers[0].resources
    assert plan(before, seen, 2.0) == Wait(None)
    assert plan(after, seen, 2.0) == ResizeContainer(after.containers[0])
    seen.of("main").resources = after.containers[0].resources
    assert plan(after, seen, 2.0) == Wait(None)
    (entry,) = status(after, seen)["containerStatuses"]
    assert entry["resources"] == {
        "limits": {"cpu": "2", "memory": "8Mi"},
        "requests": {"cpu": "2", "memory": "8Mi"},
    }
    assert entry["allocatedResources"] == entry["resources"]["requests"]


def test_a_resize_policy_restarts_for_one_resource_and_not_for_the_other() -> None:
    policy = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}, {"resourceName": "cpu"}]
    seen = observed(main=running(1.0))
    seen.of("main").resources = limits().containers[0].resources
    more_cpu, more_memory = limits(cpu="2", resizePolicy=policy), limits(memory="9Mi", resizePolicy=policy)
    assert plan(more_cpu, seen, 2.0) == ResizeContainer(more_cpu.containers[0])
    stop = plan(more_memory, seen, 2.0)
    assert isinstance(stop, StopContainers) and stop.replacing and "memory" in stop.why


def test_a_resize_that_fails_is_tried_again_and_one_that_is_refused_is_not() -> None:
    wanted, seen = limits(memory="4Mi"), observed(main=running(1.0))
    state = seen.of("main")
    state.resources, state.resize_error, state.retry_at = limits().containers[0].resources, "in use", 12.0
    assert plan(wanted, seen, 2.0) == Wait(12.0)
    assert plan(wanted, seen, 12.0) == ResizeContainer(wanted.containers[0])
    said = conditions(status(wanted, seen))
    assert said["PodResizeInProgress"]["status"] == "True" and said["PodResizeInProgress"]["message"] == "in use"
    state.resize_refused = wanted.containers[0].resources
    assert plan(wanted, seen, 100.0) == Wait(None)
    assert conditions(status(wanted, seen))["PodResizePending"]["reason"] == "Infeasible"
    assert "PodResizePending" not in conditions(status(limits(), seen)), "it was taken back"


def test_what_the_machine_does_not_have_is_infeasible() -> None:
    asked = ResourceRequirements(None, None, 3000, 1 << 30)
    assert infeasible(asked, {"cpu": 4000, "memory": 2 << 30}) == ""
    assert "cpu" in infeasible(asked, {"cpu": 2000, "memory": 2 << 30})
    assert "memory" in infeasible(asked, {"cpu": 4000, "memory": 1 << 20})


def test_the_status_says_who_runs_with_what_and_which_specification_was_seen() -> None:
    p = pod(
        metadata={"generation": 7},
        volumes=[{"name": "v", "emptyDir": {}}],
        containers=[
            container(
                lifecycle={"stopSignal": "SIGUSR1"},
                volumeMounts=[{"name": "v", "mountPath": "/v", "readOnly": True, "recursiveReadOnly": "IfPossible"}],
            )
        ],
    )
    seen = observed(main=running(1.0))
    seen.of("main").user = User(7, 8, (9,))
    said = status(p, seen)
    (entry,) = said["containerStatuses"]
    assert entry["user"] == {"linux": {"uid": 7, "gid": 8, "supplementalGroups": [9]}}
    assert entry["stopSignal"] == "SIGUSR1"
    assert entry["volumeMounts"] == [{"name": "v", "mountPath": "/v", "readOnly": True, "recursiveReadOnly": "Enabled"}]
    assert said["observedGeneration"] == 7 and said["hostIPs"] == [{"ip": "100.64.0.1"}]
    assert {c["observedGeneration"] for c in said["conditions"]} == {7}
