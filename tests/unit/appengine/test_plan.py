"""What AppEngine does next, as tables: no runtime, literal times."""

from __future__ import annotations

from typing import Any

import pytest

from kubeedge.api.pod import Pod
from kubeedge.api.pod_parser import parse
from kubeedge.appengine.core import (
    CreateSandbox,
    PodObservation,
    RemovePod,
    ReportRemoved,
    StartContainer,
    StopContainers,
    Wait,
    note_exit,
    note_failure,
    note_start,
    phase,
    plan,
)
from kubeedge.appengine.runtime.oci_spec import MAX_TEXT, expand, expand_all
from kubeedge.appengine.status import pod_status
from kubeedge.errors import Invalid


def pod(*names: str, init: tuple[str, ...] = (), **spec: Any) -> Pod:
    containers = [{"name": n, "image": "demo:1"} for n in names or ("main",)]
    metadata = {"name": "p", "namespace": "default", "uid": "u1", **spec.pop("metadata", {})}
    return parse(
        {
            "metadata": metadata,
            "spec": {
                "containers": containers,
                "initContainers": [{"name": n, "image": "demo:1"} for n in init],
                "terminationGracePeriodSeconds": 5,
                **spec,
            },
        }
    )


def ready_sandbox() -> PodObservation:
    return PodObservation("u1", ip="10.244.1.2", sandbox=True)


def run(observed: PodObservation, name: str, now: float, attempt: int = 0) -> None:
    note_start(
        observed.of(name),
        attempt=attempt,
        id=f"{name}{attempt}",
        pid=7,
        image="demo:1",
        image_id="sha256:x",
        wall=now,
        now=now,
    )


def end(observed: PodObservation, name: str, now: float, code: int = 1, reason: str = "") -> None:
    note_exit(observed.of(name), exit_code=code, reason=reason, message="", wall=now, now=now)


def test_a_pod_begins_with_its_sandbox_then_its_containers() -> None:
    wanted, observed = pod("a", "b"), PodObservation("u1")
    assert plan(wanted, observed, 0.0) == CreateSandbox()
    observed.sandbox = True
    assert plan(wanted, observed, 0.0) == StartContainer(wanted.containers[0], 0)
    run(observed, "a", 0.0)
    assert plan(wanted, observed, 0.0) == StartContainer(wanted.containers[1], 0)
    run(observed, "b", 0.0)
    assert plan(wanted, observed, 0.0) == Wait(None)


def test_init_containers_run_one_after_the_other() -> None:
    wanted, observed = pod(init=("i1", "i2")), ready_sandbox()
    assert plan(wanted, observed, 0.0) == StartContainer(wanted.init_containers[0], 0)
    run(observed, "i1", 0.0)
    assert plan(wanted, observed, 1.0) == Wait(None)
    assert phase(wanted, observed) == "Pending"
    end(observed, "i1", 2.0, code=0)
    assert plan(wanted, observed, 2.0) == StartContainer(wanted.init_containers[1], 0)
    run(observed, "i2", 2.0)
    end(observed, "i2", 3.0, code=0)
    assert plan(wanted, observed, 3.0) == StartContainer(wanted.containers[0], 0)


def test_a_failed_init_container_under_never_fails_the_pod() -> None:
    wanted, observed = pod(init=("i",), restartPolicy="Never"), ready_sandbox()
    run(observed, "i", 0.0)
    end(observed, "i", 1.0, code=2)
    assert phase(wanted, observed) == "Failed"
    assert plan(wanted, observed, 1.0) == Wait(None)


def test_restarts_come_at_once_then_after_10_20_40_seconds_up_to_300() -> None:
    wanted, observed = pod(), ready_sandbox()
    now = 0.0
    waits = []
    for attempt in range(9):
        action = plan(wanted, observed, now)
        if isinstance(action, Wait):
            assert action.until is not None
            waits.append(action.until - now)
            now = action.until
            action = plan(wanted, observed, now)
        else:
            waits.append(0.0)
        assert action == StartContainer(wanted.containers[0], attempt)
        run(observed, "main", now, attempt)
        now += 1.0
        end(observed, "main", now)
    assert waits == [0.0, 0.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0]


def test_ten_minutes_of_life_forget_the_crashes() -> None:
    wanted, observed = pod(), ready_sandbox()
    for attempt in range(5):
        run(observed, "main", 0.0, attempt)
        end(observed, "main", 1.0)
    run(observed, "main", 100.0, 5)
    end(observed, "main", 700.0)
    assert plan(wanted, observed, 700.0) == StartContainer(wanted.containers[0], 6)


@pytest.mark.parametrize(
    ("policy", "code", "expected"),
    [
        ("Always", 0, "Running"),
        ("Always", 1, "Running"),
        ("OnFailure", 0, "Succeeded"),
        ("OnFailure", 1, "Running"),
        ("Never", 0, "Succeeded"),
        ("Never", 1, "Failed"),
    ],
)
def test_the_restart_policy_decides_the_phase(policy: str, code: int, expected: str) -> None:
    wanted, observed = pod(restartPolicy=policy), ready_sandbox()
    run(observed, "main", 0.0)
    end(observed, "main", 1.0, code=code)
    assert phase(wanted, observed) == expected


def test_a_deleted_pod_stops_is_removed_and_is_gone() -> None:
    wanted = pod(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 3})
    observed = ready_sandbox()
    run(observed, "main", 0.0)
    assert plan(wanted, observed, 1.0) == StopContainers(("main",), 3.0, "the pod is deleted")
    end(observed, "main", 2.0, code=143)
    assert plan(wanted, observed, 2.0) == RemovePod()
    assert plan(wanted, PodObservation("u1"), 2.0) == ReportRemoved()


def test_another_uid_under_the_same_name_ends_the_old_pod() -> None:
    observed = PodObservation("old", sandbox=True)
    assert plan(pod(), observed, 0.0) == RemovePod()


def test_a_changed_image_restarts_that_container_alone() -> None:
    observed = ready_sandbox()
    run(observed, "a", 0.0)
    run(observed, "b", 0.0)
    changed = parse(
        {
            "metadata": {"name": "p", "namespace": "default", "uid": "u1"},
            "spec": {"containers": [{"name": "a", "image": "demo:2"}, {"name": "b", "image": "demo:1"}]},
        }
    )
    action = plan(changed, observed, 1.0)
    assert isinstance(action, StopContainers) and action.names == ("a",)


def test_a_container_that_cannot_start_is_tried_less_and_less_often() -> None:
    wanted, observed = pod(), ready_sandbox()
    state = observed.of("main")
    note_failure(state, reason="ErrImagePull", message="no such image", now=0.0)
    assert (state.waiting_reason, plan(wanted, observed, 0.0)) == ("ErrImagePull", Wait(10.0))
    note_failure(state, reason="ErrImagePull", message="no such image", now=10.0)
    assert (state.waiting_reason, plan(wanted, observed, 10.0)) == ("ImagePullBackOff", Wait(30.0))
    assert plan(wanted, observed, 30.0) == StartContainer(wanted.containers[0], 0)


def test_the_status_says_crash_loop_and_keeps_the_last_state() -> None:
    wanted, observed = pod(), ready_sandbox()
    for attempt in range(2):
        run(observed, "main", 10.0 * attempt, attempt)
        end(observed, "main", 10.0 * attempt + 1, code=3)
    status = pod_status(wanted, observed, scheme="embedded", host_ip="100.64.0.1", previous=None, now=12.0)
    (container,) = status["containerStatuses"]
    assert container["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert container["lastState"]["terminated"]["exitCode"] == 3 and container["restartCount"] == 1


def test_a_condition_that_does_not_change_keeps_its_time() -> None:
    wanted, observed = pod(), ready_sandbox()
    run(observed, "main", 0.0)
    observed.of("main").ready = True
    first = pod_status(wanted, observed, scheme="embedded", host_ip="", previous=None, now=100.0)
    again = pod_status(wanted, observed, scheme="embedded", host_ip="", previous=first, now=500.0)
    assert again == first


@pytest.mark.parametrize(
    ("text", "expanded"),
    [("$(A)", "1"), ("$$(A)", "$(A)"), ("$(B)", "$(B)"), ("x$(A)y$", "x1y$"), ("$(A", "$(A"), ("$", "$"), ("", "")],
)
def test_references_in_commands(text: str, expanded: str) -> None:
    assert expand(text, {"A": "1"}) == expanded


def test_references_grow_no_longer_than_the_kernel_takes() -> None:
    full = {"A": "x" * (MAX_TEXT // 2)}
    assert len(expand("$(A)$(A)", full)) == MAX_TEXT
    with pytest.raises(Invalid, match="longer than"):
        expand("$(A)$(A).", full)
    with pytest.raises(Invalid, match="longer than"):
        expand_all(["$(A)"] * 33, full)
    assert len(expand_all(["$(A)"] * 32, full)) == 32


def test_references_without_an_end_are_read_once() -> None:
    """The old way, a search behind each of them, takes the square of that."""

    class Counted(str):
        searched = 0

        def find(self, *args: Any) -> int:
            Counted.searched += 1
            return super().find(*args)

    text = Counted("$(" * 50_000)
    assert expand(text, {}) == text and Counted.searched <= 1


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"containers": []}, "spec.containers"),
        ({"containers": [{"name": "a"}]}, "spec.containers[0].image"),
        ({"containers": [{"name": "a", "image": "b", "command": "sh"}]}, "spec.containers[0].command"),
        (
            {"containers": [{"name": "a", "image": "b", "resources": {"limits": {"cpu": "much"}}}]},
            "resources.limits.cpu",
        ),
        ({"containers": [{"name": "a", "image": "b"}], "volumes": [{"name": "v", "nfs": {}}]}, "spec.volumes[0]"),
        ({"containers": None}, "spec.containers"),
        ({"containers": "all"}, "spec.containers"),
    ],
)
def test_what_cannot_be_understood_is_named(spec: dict[str, Any], path: str) -> None:
    with pytest.raises(Invalid, match=path.replace("[", r"\[").replace("]", r"\]")):
        parse({"metadata": {"name": "p", "namespace": "d", "uid": "u"}, "spec": spec})


def sidecar_pod(**spec: Any) -> Pod:
    init = [
        {"name": "first", "image": "demo:1", "restartPolicy": "Always"},
        {"name": "once", "image": "demo:1"},
        {"name": "second", "image": "demo:1", "restartPolicy": "Always"},
    ]
    return pod("main", initContainers=init, **spec)


def started(observed: PodObservation, name: str, now: float, attempt: int = 0) -> None:
    run(observed, name, now, attempt)
    observed.of(name).started = observed.of(name).ready = True


def test_sidecars_start_in_their_turn_and_stay() -> None:
    wanted, observed = sidecar_pod(), ready_sandbox()
    assert plan(wanted, observed, 0.0) == StartContainer(wanted.init_containers[0], 0)
    run(observed, "first", 0.0)
    assert plan(wanted, observed, 0.0) == Wait(None)  # until its startup probe says so
    assert phase(wanted, observed) == "Pending"
    observed.of("first").started = True
    assert plan(wanted, observed, 0.0) == StartContainer(wanted.init_containers[1], 0)
    run(observed, "once", 0.0)
    assert plan(wanted, observed, 0.0) == Wait(None)
    end(observed, "once", 1.0, 0)
    assert plan(wanted, observed, 1.0) == StartContainer(wanted.init_containers[2], 0)
    started(observed, "second", 1.0)
    assert plan(wanted, observed, 1.0) == StartContainer(wanted.containers[0], 0)
    started(observed, "main", 1.0)
    assert plan(wanted, observed, 1.0) == Wait(None)
    assert phase(wanted, observed) == "Running"


def test_a_sidecar_is_restarted_under_every_policy_and_delays_no_other_container() -> None:
    for policy in ("Always", "OnFailure", "Never"):
        wanted, observed = sidecar_pod(restartPolicy=policy), ready_sandbox()
        for name in ("first", "once", "second", "main"):
            started(observed, name, 0.0)
        end(observed, "once", 1.0, 0)
        end(observed, "first", 700.0, 0)
        assert phase(wanted, observed) == "Running"
        assert plan(wanted, observed, 700.0) == StartContainer(wanted.init_containers[0], 1)
        seen = pod_status(wanted, observed, scheme="embedded", host_ip="", previous=None, now=0.0)
        assert {c["type"]: c["status"] for c in seen["conditions"]}["Ready"] == "False"


def test_sidecars_end_after_the_containers_the_last_one_first() -> None:
    def at_work(wanted: Pod) -> PodObservation:
        observed = ready_sandbox()
        for name in ("first", "once", "second", "main"):
            started(observed, name, 0.0)
        end(observed, "once", 1.0, 0)
        return observed

    finished = sidecar_pod(restartPolicy="Never")
    deleted = sidecar_pod(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})
    for wanted in (finished, deleted):
        observed = at_work(wanted)
        if wanted is deleted:
            assert plan(wanted, observed, 1.0) == StopContainers(("main",), 5.0, "the pod is deleted")
        end(observed, "main", 1.0, 0)
        order = []
        while isinstance(action := plan(wanted, observed, 1.0), StopContainers):
            order += action.names
            for name in action.names:
                end(observed, name, 1.0, 0)
        assert order == ["second", "first"]
    assert phase(finished, observed) == "Succeeded"


def test_a_failed_probe_may_have_its_own_grace() -> None:
    wanted, observed = pod(), ready_sandbox()
    run(observed, "main", 0.0)
    observed.of("main").unhealthy, observed.of("main").unhealthy_grace = "bad", 1.0
    assert plan(wanted, observed, 1.0) == StopContainers(("main",), 1.0, "bad")
    end(observed, "main", 2.0)
    assert observed.of("main").unhealthy_grace is None


def test_an_evicted_pod_ends_at_once_and_stays_so() -> None:
    wanted, observed = pod("a", "b"), ready_sandbox()
    run(observed, "a", 0.0)
    observed.evicted = "too much"
    assert plan(wanted, observed, 1.0) == StopContainers(("a",), 1.0, "too much")
    end(observed, "a", 1.0)
    assert plan(wanted, observed, 1e6) == Wait(None)
    seen = pod_status(wanted, observed, scheme="embedded", host_ip="", previous=None, now=0.0)
    assert (seen["phase"], seen["reason"], seen["message"]) == ("Failed", "Evicted", "too much")


def test_a_container_may_have_a_restart_policy_of_its_own() -> None:
    containers = [{"name": "a", "image": "demo:1", "restartPolicy": "Never"}, {"name": "b", "image": "demo:1"}]
    wanted, observed = pod(containers=containers), ready_sandbox()
    for name in ("a", "b"):
        run(observed, name, 0.0)
        end(observed, name, 1.0)
    assert plan(wanted, observed, 1.0) == StartContainer(wanted.containers[1], 1)
    assert phase(wanted, observed) == "Running"
    only = pod(containers=containers[:1])
    assert phase(only, observed) == "Failed"
