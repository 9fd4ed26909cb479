"""Deployments, step by step: a table of situations, and rollouts under random luck."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubeedge.api.names import Object
from kubeedge_cloud.controllers.deployment import core, replicasets
from kubeedge_cloud.controllers.deployment import status as rollout_status

NOON = 1_790_000_000.0


def deployment(replicas: int = 4, image: str = "a", *, surge: Any = 1, unavailable: Any = 1, **more: Any) -> Object:
    kind = more.pop("kind", "RollingUpdate")
    strategy: Object = {"type": kind}
    if kind == "RollingUpdate":
        strategy["rollingUpdate"] = {"maxSurge": surge, "maxUnavailable": unavailable}
    return {
        "metadata": {"name": "web", "namespace": "n", "uid": "d", "generation": 1, **more.pop("metadata", {})},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": strategy,
            "progressDeadlineSeconds": 600,
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"image": image}]}},
            **more.pop("spec", {}),
        },
        "status": more.pop("status", {}),
    }


def replicaset(
    image: str, replicas: int, available: int | None = None, *, revision: int = 1, total: int = 4, surge: int = 1
) -> Object:
    made = core.plan(deployment(image=image), [], []).create
    assert made is not None
    made["metadata"].update(
        uid=f"rs-{image}", creationTimestamp=f"2026-01-{ord(image) - 96:02}T00:00:00Z", generation=1
    )
    made["metadata"]["annotations"].update(
        {core.REVISION: str(revision), core.DESIRED: str(total), core.MAXIMUM: str(total + surge)}
    )
    made["spec"]["replicas"] = replicas
    ready = replicas if available is None else available
    made["status"] = {"replicas": replicas, "availableReplicas": ready, "readyReplicas": ready, "observedGeneration": 1}
    return made


def steps(plan: core.DeploymentPlan) -> dict[str, int]:
    """image -> replicas, for what changes."""
    return {
        change.replicaset["spec"]["template"]["spec"]["containers"][0]["image"]: change.replicas
        for change in plan.changes
        if change.replicas is not None and change.replicas != change.replicaset["spec"]["replicas"]
    }


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        # (replicas, available) of each; 4 wanted, one more and one less allowed
        ((4, 4), (1, 0), {"a": 3}),  # one may be missing
        ((3, 3), (1, 0), {"b": 2}),  # and one may be added
        ((3, 3), (2, 0), {}),  # now it waits for the new ones
        ((3, 3), (2, 1), {"a": 2}),
        ((2, 2), (2, 2), {"a": 1, "b": 3}),
        ((1, 1), (4, 3), {"a": 0}),
        ((4, 2), (1, 0), {"a": 3}),  # a sick old pod goes first, and no healthy one with it
        ((4, 0), (1, 0), {"a": 3}),  # nothing works: no more is taken away than an update of what works would
        ((0, 0), (4, 2), {}),
        ((0, 0), (3, 3), {"b": 4}),
    ],
)
def test_one_step_of_a_rolling_update(old: tuple[int, int], new: tuple[int, int], expected: dict[str, int]) -> None:
    plan = core.plan(deployment(image="b"), [replicaset("a", *old), replicaset("b", *new, revision=2)], [])
    assert steps(plan) == expected and plan.create is None


@pytest.mark.parametrize(
    ("surge", "unavailable", "replicas", "expected"),
    [
        ("25%", "25%", 10, (3, 2)),
        ("25%", "25%", 1, (1, 0)),
        ("0%", "0%", 4, (0, 1)),
        (0, 0, 4, (0, 1)),
        ("100%", 0, 4, (4, 0)),
        (2, 9, 4, (2, 4)),
        (None, None, 4, (0, 1)),
    ],
)
def test_limits_are_rounded_to_the_safe_side(
    surge: Any, unavailable: Any, replicas: int, expected: tuple[int, int]
) -> None:
    assert replicasets.limits(deployment(replicas, surge=surge, unavailable=unavailable)) == expected


def test_the_first_replicaset_has_the_deployments_template_and_everything_that_finds_it() -> None:
    wanted = deployment(3, metadata={"annotations": {"kubernetes.io/change-cause": "first", core.REVISION: "7"}})
    made = core.plan(wanted, [], []).create
    assert made is not None
    label = made["metadata"]["labels"]["pod-template-hash"]
    assert made["metadata"]["name"] == f"web-{label}" and made["spec"]["replicas"] == 3
    assert made["spec"]["selector"] == {"matchLabels": {"app": "web", "pod-template-hash": label}}
    assert made["spec"]["template"]["metadata"]["labels"] == {"app": "web", "pod-template-hash": label}
    assert made["metadata"]["annotations"] == {
        "kubernetes.io/change-cause": "first",
        core.REVISION: "1",
        core.DESIRED: "3",
        core.MAXIMUM: "4",
    }
    assert replicasets.new_replicaset_of(wanted, [made]) is made


def test_an_update_begins_with_as_many_new_pods_as_may_be_added() -> None:
    made = core.plan(deployment(image="b"), [replicaset("a", 4)], []).create
    assert made is not None
    assert made["spec"]["replicas"] == 1 and made["metadata"]["annotations"][core.REVISION] == "2"


def test_going_back_makes_the_old_replicaset_the_newest() -> None:
    plan = core.plan(
        deployment(image="a", metadata={"annotations": {core.REVISION: "2"}}),
        [replicaset("a", 0), replicaset("b", 4, revision=2)],
        [],
    )
    assert plan.create is None and plan.revision == "3" and steps(plan) == {"a": 1, "b": 3}
    (annotations,) = [c.annotations for c in plan.changes if c.replicaset["metadata"]["uid"] == "rs-a"]
    assert annotations[core.REVISION] == "3" and annotations[core.HISTORY] == "1"


def test_recreate_waits_for_the_last_old_pod() -> None:
    wanted = deployment(2, "b", kind="Recreate")
    old = replicaset("a", 2)
    assert steps(core.plan(wanted, [old], [])) == {"a": 0}
    old = replicaset("a", 0)
    stopping = {"metadata": {"ownerReferences": [{"uid": "rs-a"}], "deletionTimestamp": "x"}, "status": {}}
    assert core.plan(wanted, [old], [stopping]) == core.DeploymentPlan()
    made = core.plan(wanted, [old], []).create
    assert made is not None and made["spec"]["replicas"] == 0
    assert steps(core.plan(wanted, [old, replicaset("b", 0, revision=2)], [])) == {"b": 2}


def test_scaling_in_the_middle_of_a_rollout_keeps_the_shares() -> None:
    found = [replicaset("a", 6, total=10, surge=2), replicaset("b", 6, total=10, surge=2, revision=2)]
    assert steps(core.plan(deployment(20, "b", surge=4), found, [])) == {"a": 12, "b": 12}
    assert steps(core.plan(deployment(5, "b", surge=1), found, [])) == {"a": 3, "b": 3}
    assert steps(core.plan(deployment(0, "b", surge=0), found, [])) == {"a": 0, "b": 0}


def test_a_paused_deployment_is_only_scaled() -> None:
    paused = {"paused": True}
    found = [replicaset("a", 4)]
    assert core.plan(deployment(4, "b", spec=paused), found, []) == core.DeploymentPlan()
    assert steps(core.plan(deployment(6, "b", spec=paused), found, [])) == {"a": 6}


def test_a_deployment_that_is_deleted_is_left_alone() -> None:
    deleted = deployment(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})
    assert core.plan(deleted, [replicaset("a", 9)], []) == core.DeploymentPlan()


def test_the_history_is_as_long_as_asked_for_once_the_rollout_is_complete() -> None:
    old = [replicaset(image, 0, revision=n + 1) for n, image in enumerate("abcd")]
    wanted = deployment(4, "e", spec={"revisionHistoryLimit": 2}, metadata={"annotations": {core.REVISION: "5"}})
    plan = core.plan(wanted, [*old, replicaset("e", 4, revision=5)], [])
    assert [core.revision_of(rs) for rs in plan.delete] == [1, 2]
    assert core.plan(wanted, [*old, replicaset("e", 4, 3, revision=5)], []).delete == ()


# Status


def conditions(status: Object) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]}


def test_the_status_counts_and_says_when_it_is_done() -> None:
    wanted = deployment(image="b")
    half, later = rollout_status.of(wanted, [replicaset("a", 2), replicaset("b", 3, 1, revision=2)], NOON)
    assert {k: v for k, v in half.items() if k != "conditions"} == {
        "observedGeneration": 1,
        "replicas": 5,
        "updatedReplicas": 3,
        "readyReplicas": 3,
        "availableReplicas": 3,
        "unavailableReplicas": 2,
    }
    assert conditions(half) == {
        "Available": ("True", "MinimumReplicasAvailable"),
        "Progressing": ("True", "ReplicaSetUpdated"),
    }
    assert later == 600.0
    done, later = rollout_status.of({**wanted, "status": half}, [replicaset("a", 0), replicaset("b", 4)], NOON + 60)
    assert conditions(done)["Progressing"] == ("True", "NewReplicaSetAvailable") and later is None
    progressing = next(c for c in done["conditions"] if c["type"] == "Progressing")
    assert progressing["lastTransitionTime"] == "2026-09-21T14:13:20Z"  # True stayed True
    assert progressing["lastUpdateTime"] == "2026-09-21T14:14:20Z"
    assert rollout_status.of({**wanted, "status": done}, [replicaset("a", 0), replicaset("b", 4)], NOON + 90)[0] == done


def test_no_progress_for_the_deadline_is_a_failure_and_progress_moves_the_deadline() -> None:
    wanted = deployment(image="b")
    found = [replicaset("a", 3), replicaset("b", 2, 0, revision=2)]
    first, _ = rollout_status.of(wanted, found, NOON)
    same, later = rollout_status.of({**wanted, "status": first}, found, NOON + 599)
    assert same == first and later == 1.0
    failed, later = rollout_status.of({**wanted, "status": first}, found, NOON + 600)
    assert conditions(failed)["Progressing"] == ("False", "ProgressDeadlineExceeded") and later is None
    moved, later = rollout_status.of(
        {**wanted, "status": first}, [replicaset("a", 3), replicaset("b", 2, 1, revision=2)], NOON + 599
    )
    assert conditions(moved)["Progressing"] == ("True", "ReplicaSetUpdated") and later == 600.0


def test_pods_that_are_lost_after_the_rollout_do_not_make_it_fail() -> None:
    wanted = deployment()
    done, _ = rollout_status.of(wanted, [replicaset("a", 4)], NOON)
    lost, later = rollout_status.of({**wanted, "status": done}, [replicaset("a", 4, 1)], NOON + 86_400)
    assert conditions(lost) == {
        "Available": ("False", "MinimumReplicasUnavailable"),
        "Progressing": ("True", "NewReplicaSetAvailable"),
    }
    assert later is None


def test_why_pods_cannot_be_made_is_told_at_the_deployment() -> None:
    found = replicaset("a", 4, 0)
    wrong = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota"}
    found["status"]["conditions"] = [wrong]
    status, _ = rollout_status.of(deployment(), [found], NOON)
    (told,) = [c for c in status["conditions"] if c["type"] == "ReplicaFailure"]
    assert told["message"] == "quota"


# Luck


class Fleet:
    """ReplicaSets whose pods become available when luck says so; the sick go first when one shrinks."""

    def __init__(self, wanted: Object) -> None:
        self.wanted = wanted
        self.sets: list[Object] = []

    def step(self) -> bool:
        plan = core.plan(self.wanted, self.sets, [])
        if plan.create is not None:
            made = plan.create
            made["metadata"]["uid"] = f"rs-{len(self.sets)}"
            made["metadata"]["creationTimestamp"] = f"2026-01-01T00:00:{len(self.sets):02}Z"
            made["status"] = {"replicas": made["spec"]["replicas"], "availableReplicas": 0}
            self.sets.append(made)
        for change in plan.changes:
            rs = change.replicaset
            rs["metadata"]["annotations"].update(change.annotations)
            if change.replicas is not None:
                rs["spec"]["replicas"] = change.replicas
                status = rs["status"]
                rs["status"] = {
                    "replicas": change.replicas,
                    "availableReplicas": min(status["availableReplicas"], change.replicas),
                }
        return bool(plan.changes) or plan.create is not None

    def pods(self) -> int:
        return sum(rs["spec"]["replicas"] for rs in self.sets)

    def available(self) -> int:
        return sum(rs["status"]["availableReplicas"] for rs in self.sets)

    def get_ready(self, which: int) -> None:
        starting = [rs for rs in self.sets if rs["status"]["availableReplicas"] < rs["spec"]["replicas"]]
        if starting:
            starting[which % len(starting)]["status"]["availableReplicas"] += 1

    def settle(self) -> None:
        for _ in range(1000):
            if not self.step() and self.available() == self.pods():
                return
            for number in range(len(self.sets)):
                self.get_ready(number)
        raise AssertionError(f"not settled: {[(rs['spec']['replicas'], rs['status']) for rs in self.sets]}")


sizes = st.integers(0, 3) | st.sampled_from(["0%", "10%", "25%", "50%", "100%"])


@settings(max_examples=150, deadline=None)
@given(
    replicas=st.integers(1, 12),
    surge=sizes,
    unavailable=sizes,
    luck=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.sampled_from("abc")), max_size=60),
)
def test_whatever_the_luck_a_rollout_stays_within_its_limits_and_ends(
    replicas: int, surge: Any, unavailable: Any, luck: Sequence[tuple[int, int, str]]
) -> None:
    fleet = Fleet(deployment(replicas, "a", surge=surge, unavailable=unavailable))
    fleet.settle()
    most, less = replicasets.limits(fleet.wanted)
    for action, which, image in luck:
        if action == 0:
            fleet.wanted = deployment(replicas, image, surge=surge, unavailable=unavailable)
        elif action == 1:
            fleet.step()
        else:
            fleet.get_ready(which)
        assert fleet.pods() <= replicas + most
        assert fleet.available() >= replicas - less
    fleet.settle()
    assert fleet.pods() == fleet.available() == replicas
    new = replicasets.new_replicaset_of(fleet.wanted, fleet.sets)
    assert new is not None and new["spec"]["replicas"] == replicas
    assert max(core.revision_of(rs) for rs in fleet.sets) == core.revision_of(new)


@settings(max_examples=100, deadline=None)
@given(
    resizes=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 8), st.sampled_from("ab")), min_size=1, max_size=8),
    surge=sizes,
    unavailable=sizes,
)
def test_scaling_at_any_moment_of_a_rollout_ends_at_the_size_asked_for(
    resizes: Sequence[tuple[int, int, str]], surge: Any, unavailable: Any
) -> None:
    fleet = Fleet(deployment(4, "a", surge=surge, unavailable=unavailable))
    fleet.settle()
    for replicas, moves, image in resizes:
        fleet.wanted = deployment(replicas, image, surge=surge, unavailable=unavailable)
        for move in range(moves):
            fleet.step()
            fleet.get_ready(move)
            assert fleet.pods() <= 12 + replicasets.limits(deployment(12, surge=surge, unavailable=unavailable))[0] + 4
    fleet.settle()
    assert fleet.pods() == resizes[-1][0]
