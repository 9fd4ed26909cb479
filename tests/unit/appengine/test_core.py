"""What happens next to a pod, at literal times."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.appengine import core
from kubeedge.appengine.core import (
    ContainerObservation,
    CreateSandbox,
    PodObservation,
    RemovePod,
    ReportRemoved,
    StartContainer,
    StopContainers,
    Wait,
    plan,
)
from kubeedge.appengine.worker import Worker
from tests.unit.appengine.world import container, exited, observed, pod, running


def names(action: core.Action) -> object:
    """An action without the parts that the table does not speak of."""
    match action:
        case StartContainer(started, attempt):
            return ("start", started.name, attempt)
        case StopContainers(stopped, grace):
            return ("stop", *stopped, grace)
    return action


def test_a_new_pod_gets_a_sandbox_first() -> None:
    assert plan(pod(), PodObservation("u1"), 100.0) == CreateSandbox()


def test_a_sandbox_that_failed_is_tried_again_after_its_back_off_and_not_before() -> None:
    seen = PodObservation("u1", retry_at=104.0, failures=2)
    assert plan(pod(), seen, 103.9) == Wait(104.0)
    assert plan(pod(), seen, 104.0) == CreateSandbox()


def test_init_containers_run_one_after_the_other_and_before_the_rest() -> None:
    p = pod(initContainers=[container("i1"), container("i2")])
    assert names(plan(p, observed(), 100.0)) == ("start", "i1", 0)
    assert plan(p, observed(i1=running(99.0)), 100.0) == Wait(None)
    assert names(plan(p, observed(i1=exited(0, 99.0)), 100.0)) == ("start", "i2", 0)
    assert names(plan(p, observed(i1=exited(0, 98.0), i2=exited(0, 99.0)), 100.0)) == ("start", "main", 0)


def test_a_failed_init_container_is_restarted_under_always_and_ends_the_pod_under_never() -> None:
    seen = observed(i1=exited(1, 99.0))
    assert names(plan(pod(initContainers=[container("i1")]), seen, 100.0)) == ("start", "i1", 1)
    never = pod(initContainers=[container("i1")], restartPolicy="Never")
    assert plan(never, seen, 100.0) == Wait(None)
    assert core.phase(never, seen) == "Failed"


@pytest.mark.parametrize(
    ("policy", "code", "restarted", "phase"),
    [
        ("Always", 0, True, "Running"),
        ("Always", 1, True, "Running"),
        ("OnFailure", 0, False, "Succeeded"),
        ("OnFailure", 1, True, "Running"),
        ("Never", 0, False, "Succeeded"),
        ("Never", 1, False, "Failed"),
    ],
)
def test_the_restart_policy_decides_about_an_exited_container(
    policy: str, code: int, restarted: bool, phase: str
) -> None:
    p, seen = pod(restartPolicy=policy), observed(main=exited(code, 99.0))
    assert names(plan(p, seen, 100.0)) == (("start", "main", 1) if restarted else Wait(None))
    assert core.phase(p, seen) == phase


@pytest.mark.parametrize(
    ("crashes", "delay"), [(1, 0.0), (2, 10.0), (3, 20.0), (4, 40.0), (5, 80.0), (6, 160.0), (7, 300.0), (60, 300.0)]
)
def test_the_back_off_of_crashes_doubles_to_five_minutes(crashes: int, delay: float) -> None:
    seen = observed(main=exited(1, 1000.0, crashes=crashes))
    if delay:
        assert plan(pod(), seen, 1000.0 + delay - 0.1) == Wait(1000.0 + delay)
    assert names(plan(pod(), seen, 1000.0 + delay)) == ("start", "main", 1)


@pytest.mark.parametrize("wall", [0.5, 1000.0, 4e9])
def test_a_back_off_does_not_go_by_the_time_of_day(wall: float) -> None:
    """A clock that is set while a container waits: back to 1970, or on to the next century."""
    state = running(1000.0)
    state.crashes = 1
    core.note_exit(state, exit_code=1, reason="", message="", wall=wall, now=1005.0)
    seen = observed(main=state)
    assert (state.finished_at, plan(pod(), seen, 1014.9)) == (wall, Wait(1015.0))
    assert names(plan(pod(), seen, 1015.0)) == ("start", "main", 1)


def test_ten_minutes_of_life_forget_the_crashes_before() -> None:
    state = running(1000.0)
    state.crashes = 6
    core.note_exit(state, exit_code=1, reason="", message="", wall=1599.0, now=1599.0)
    assert state.crashes == 7
    state = running(1000.0)
    state.crashes = 6
    core.note_exit(state, exit_code=1, reason="", message="", wall=1600.0, now=1600.0)
    assert state.crashes == 1


def test_what_could_not_start_is_tried_again_less_and_less_often_and_its_reason_becomes_back_off() -> None:
    state = ContainerObservation()
    seen = observed(main=state)
    core.note_failure(state, reason="ErrImagePull", message="no route", now=100.0)
    assert (state.waiting_reason, plan(pod(), seen, 100.0)) == ("ErrImagePull", Wait(110.0))
    core.note_failure(state, reason="ErrImagePull", message="no route", now=110.0)
    assert (state.waiting_reason, plan(pod(), seen, 110.0)) == ("ImagePullBackOff", Wait(130.0))
    for _ in range(20):
        core.note_failure(state, reason="ErrImagePull", message="no route", now=200.0)
    assert plan(pod(), seen, 200.0) == Wait(500.0)
    core.note_start(state, attempt=0, id="i", pid=1, image="x", image_id="y", wall=500.0, now=500.0)
    assert (state.waiting_reason, state.failures, state.attempt) == ("", 0, 0)


def test_containers_of_one_pod_do_not_wait_for_each_other() -> None:
    p = pod(containers=[container("a"), container("b")])
    failed = ContainerObservation(failures=1, retry_at=150.0, waiting_reason="ErrImagePull")
    assert names(plan(p, observed(a=failed), 100.0)) == ("start", "b", 0)
    assert plan(p, observed(a=failed, b=running(100.0)), 100.0) == Wait(150.0)
    later = exited(1, 100.0, crashes=3)
    assert plan(p, observed(a=failed, b=later), 101.0) == Wait(120.0)


def test_an_unhealthy_container_is_stopped_with_the_grace_of_the_pod() -> None:
    state = running(90.0)
    state.unhealthy = "liveness probe failed: exit 1"
    action = plan(pod(terminationGracePeriodSeconds=7), observed(main=state), 100.0)
    assert action == StopContainers(("main",), 7.0, "liveness probe failed: exit 1")


def test_a_new_image_replaces_the_container_at_once_and_is_no_crash() -> None:
    changed = pod(containers=[{"name": "main", "image": "demo:2"}])
    state = running(90.0)
    state.crashes = 5
    action = plan(changed, observed(main=state), 100.0)
    assert action == StopContainers(("main",), 30.0, "its image changed to demo:2", replacing=True)
    state.replacing = True
    core.note_exit(state, exit_code=143, reason="", message="", wall=101.0, now=101.0)
    assert names(plan(changed, observed(main=state), 101.0)) == ("start", "main", 1)
    assert not state.replacing


def test_a_deleted_pod_is_stopped_then_removed_then_gone() -> None:
    gone = pod(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 5})
    two = observed(a=running(90.0), b=running(90.0), c=exited(0, 95.0))
    assert names(plan(gone, two, 100.0)) == ("stop", "a", "b", 5.0)
    assert plan(gone, observed(a=exited(143, 99.0)), 100.0) == RemovePod()
    assert plan(gone, PodObservation("u1"), 100.0) == ReportRemoved()


def test_a_pod_that_nobody_wants_ends_with_the_grace_that_it_had() -> None:
    seen = observed(main=running(90.0))
    seen.grace = 3.0
    assert names(plan(None, seen, 100.0)) == ("stop", "main", 3.0)


def test_a_pod_that_was_deleted_by_force_has_two_seconds_and_one_that_is_reset_its_own_grace() -> None:
    """Kubernetes' API removes the object at once, whatever grace the pod had been given before."""
    seen = observed(main=running(90.0))
    worker = Worker("u1", "default", "web", pod(), seen)
    worker.end()
    assert names(plan(worker.desired, seen, 100.0)) == ("stop", "main", 30.0)
    worker.end(core.REMOVED_GRACE)
    assert names(plan(worker.desired, seen, 100.0)) == ("stop", "main", 2.0)
    seen.grace = 1.0
    worker.end(core.REMOVED_GRACE)
    assert names(plan(worker.desired, seen, 100.0)) == ("stop", "main", 1.0), "never longer"


def test_another_uid_under_the_same_name_is_another_pod() -> None:
    assert names(plan(pod(uid="u2"), observed(main=running(90.0)), 100.0)) == ("stop", "main", 30.0)


def test_a_pod_that_had_finished_does_not_run_again_when_our_records_are_lost() -> None:
    seen = PodObservation("u1", final="Succeeded")
    assert plan(pod(restartPolicy="Never"), seen, 100.0) == Wait(None)
    assert plan(None, seen, 100.0) == ReportRemoved()


def test_the_run_before_is_kept_as_last_state() -> None:
    state = exited(3, 100.0)
    core.note_start(state, attempt=1, id="id1", pid=8, image="x", image_id="y", wall=101.0, now=101.0)
    assert state.last is not None
    assert (state.last.exit_code, state.last.id, state.last.finished_at) == (3, "id0", 100.0)
    assert (state.attempt, state.exit_code, state.running) == (1, 0, True)


@given(
    policy=st.sampled_from(["Always", "OnFailure", "Never"]),
    codes=st.lists(st.sampled_from([0, 1, 137]), min_size=1, max_size=12),
    lives=st.lists(st.floats(0.0, 2000.0), min_size=12, max_size=12),
)
def test_a_container_is_never_started_twice_nor_before_its_time(
    policy: str, codes: list[int], lives: list[float]
) -> None:
    """Whatever the exits: attempts count up by one, nothing starts during a back-off, and Wait always names a later time."""
    p, seen, now, attempts = pod(restartPolicy=policy), observed(), 1000.0, 0
    for code, lived in zip(codes, lives, strict=False):
        action = plan(p, seen, now)
        if isinstance(action, Wait):
            if action.until is None:
                assert core.phase(p, seen) in ("Succeeded", "Failed")
                return
            assert action.until > now
            now = action.until
            action = plan(p, seen, now)
        assert names(action) == ("start", "main", attempts)
        state = seen.of("main")
        core.note_start(state, attempt=attempts, id=f"i{attempts}", pid=1, image="x", image_id="", wall=now, now=now)
        state.spec_image = p.containers[0].image
        assert plan(p, seen, now) == Wait(None)
        attempts += 1
        now += lived
        core.note_exit(state, exit_code=code, reason="", message="", wall=now, now=now)
    assert seen.of("main").restart_at <= now + core.BACKOFF.last
