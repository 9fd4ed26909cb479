"""Server-side apply: whose fields are whose, and what an apply does with them (reference/using-api/server-side-apply)."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.api import field_sets, managed_fields, meta
from kubeedge.api.edge_writes import LAST_APPLIED
from kubeedge.api.managed_fields import ApplyConflict
from kubeedge.api.names import Object
from kubeedge.api.status import BadRequest
from kubeedge.errors import Invalid


def deployment(**spec: Any) -> Object:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}


def pod_template(*containers: Object) -> Object:
    return {"spec": {"containers": list(containers)}}


def apply(live: Object | None, config: Object, manager: str, *, force: bool = False, now: float = 0.0) -> Object:
    before = copy.deepcopy((live, config))
    result = managed_fields.applied(config["kind"], live, config, manager, force=force, now=now)
    assert (live, config) == before, "the arguments stay as they are"
    return result


def write(old: Object, new: Object, manager: str, *, now: float = 0.0) -> Object:
    return managed_fields.updated(old["kind"], old, new, manager, now=now)


def changed(obj: Object, **spec: Any) -> Object:
    return {**obj, "spec": {**obj["spec"], **spec}}


def fields(obj: Object, manager: str, operation: str = "Apply") -> Object:
    (found,) = [
        e for e in meta.metadata(obj)["managedFields"] if (e["manager"], e["operation"]) == (manager, operation)
    ]
    assert found["fieldsType"] == "FieldsV1"
    return found["fieldsV1"]


def managers(obj: Object) -> list[tuple[str, str]]:
    return [(e["manager"], e["operation"]) for e in meta.metadata(obj).get("managedFields", ())]


WEB = {"name": "web", "image": "web:1", "ports": [{"containerPort": 80}]}


def test_who_applies_has_the_fields_of_his_configuration() -> None:
    config = deployment(replicas=2, selector={"matchLabels": {"app": "web"}}, template=pod_template(WEB))
    config["metadata"]["labels"] = {"a": "b"}
    made = apply(None, config, "ci")
    assert fields(made, "ci") == {
        "f:metadata": {"f:labels": {"f:a": {}}},
        "f:spec": {
            "f:replicas": {},
            "f:selector": {},
            "f:template": {
                "f:spec": {
                    "f:containers": {
                        'k:{"name":"web"}': {
                            ".": {},
                            "f:name": {},
                            "f:image": {},
                            "f:ports": {
                                'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}},
                            },
                        }
                    }
                }
            },
        },
    }


def test_the_same_configuration_again_changes_nothing() -> None:
    made = apply(None, deployment(replicas=2), "ci", now=1.0)
    assert apply(made, deployment(replicas=2), "ci", now=99.0) == made


def test_a_field_that_is_not_named_any_more_is_removed() -> None:
    made = apply(None, deployment(replicas=2, paused=True, template=pod_template(WEB)), "ci")
    again = apply(made, deployment(replicas=2), "ci")
    assert again["spec"] == {"replicas": 2}


def test_a_field_that_another_manager_owns_too_stays() -> None:
    made = apply(None, deployment(replicas=2, paused=True), "ci")
    shared = apply(made, deployment(paused=True), "people")
    alone = apply(shared, deployment(replicas=2), "ci")
    assert alone["spec"] == {"replicas": 2, "paused": True}
    assert apply(alone, deployment(), "people")["spec"] == {"replicas": 2}


def test_another_value_for_the_field_of_another_manager_is_a_conflict() -> None:
    made = apply(None, deployment(replicas=2, paused=True), "ci")
    with pytest.raises(ApplyConflict) as refused:
        apply(made, deployment(replicas=3), "people")
    status = refused.value.status()
    assert status["code"] == 409 and status["reason"] == "Conflict"
    assert status["message"] == 'Apply failed with 1 conflict: conflict with "ci" using apps/v1: .spec.replicas'
    assert status["details"]["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "ci" using apps/v1', "field": ".spec.replicas"}
    ]


def test_by_force_the_field_changes_hands() -> None:
    made = apply(None, deployment(replicas=2, paused=True), "ci")
    taken = apply(made, deployment(replicas=3), "people", force=True)
    assert taken["spec"] == {"replicas": 3, "paused": True}
    assert fields(taken, "ci") == {"f:spec": {"f:paused": {}}}
    with pytest.raises(ApplyConflict):
        apply(taken, deployment(replicas=2, paused=True), "ci")


def test_the_same_value_is_shared_without_a_conflict() -> None:
    made = apply(None, deployment(replicas=2), "ci")
    both = apply(made, deployment(replicas=2), "people")
    assert fields(both, "ci") == fields(both, "people")


def test_any_other_write_takes_over_what_it_changes() -> None:
    made = apply(None, deployment(replicas=2, paused=True), "ci")
    scaled = write(made, changed(made, replicas=5), "autoscaler", now=7.0)
    assert fields(scaled, "ci") == {"f:spec": {"f:paused": {}}}
    assert fields(scaled, "autoscaler", "Update") == {"f:spec": {"f:replicas": {}}}
    with pytest.raises(ApplyConflict, match="autoscaler"):
        apply(scaled, deployment(replicas=2, paused=True), "ci")
    assert apply(scaled, deployment(paused=True), "ci")["spec"]["replicas"] == 5


def test_what_nobody_applied_belongs_to_before_first_apply() -> None:
    live = deployment(replicas=2)
    with pytest.raises(ApplyConflict, match="before-first-apply"):
        apply(live, deployment(replicas=3), "ci")
    made = apply(live, deployment(replicas=2), "ci")
    assert managers(made) == [("ci", "Apply"), ("before-first-apply", "Update")]


def with_annotation(live: Object, config: Object) -> Object:
    """As `kubectl apply` without --server-side leaves it."""
    inner = {**meta.metadata(live), "annotations": {LAST_APPLIED: json.dumps(config)}}
    return {**live, "metadata": inner}


def bare_pod(*containers: Object, **spec: Any) -> Object:
    spec = {"containers": list(containers), **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}


def test_what_kubectl_applied_by_its_annotation_is_its_own_and_nothing_else() -> None:
    """kubectl takes that entry over for its first server-side apply, and all that it does not name goes."""
    config = bare_pod({"name": "a", "image": "a:1", "volumeMounts": [{"name": "v", "mountPath": "/v"}]})
    token = {"name": "t", "mountPath": "/token"}  # what an admission has added
    mounts = [{"name": "v", "mountPath": "/v"}, token]
    live = bare_pod(
        {"name": "a", "image": "a:2", "imagePullPolicy": "Always", "volumeMounts": mounts},
        {"name": "injected", "image": "i:1"},
        nodeName="edge1",
        dnsPolicy="ClusterFirst",
    )
    made = apply(
        with_annotation(live, config), {**config, "metadata": {"name": "p", "labels": {"x": "y"}}}, "ci", force=True
    )
    own = fields(made, "kubectl-client-side-apply", "Update")
    assert own["f:metadata"] == {"f:annotations": {f"f:{LAST_APPLIED}": {}}}
    assert set(own["f:spec"]) == {"f:containers"} and set(own["f:spec"]["f:containers"]) == {'k:{"name":"a"}'}
    container = own["f:spec"]["f:containers"]['k:{"name":"a"}']
    assert set(container) == {".", "f:name", "f:imagePullPolicy", "f:volumeMounts"}, "the image was changed since"
    assert set(container["f:volumeMounts"]) == {'k:{"mountPath":"/v"}'}
    before = fields(made, "before-first-apply", "Update")["f:spec"]
    assert {"f:nodeName", "f:dnsPolicy"} <= set(before) and 'k:{"name":"injected"}' in before["f:containers"]


def test_kubectl_is_in_no_conflict_with_itself_and_in_one_with_who_changed_a_field() -> None:
    config = deployment(replicas=2, template=pod_template(WEB))
    live = with_annotation(deployment(replicas=2, template=pod_template(WEB)), config)
    wanted = changed(config, replicas=3)
    assert apply(live, wanted, "kubectl")["spec"]["replicas"] == 3
    with pytest.raises(ApplyConflict, match="kubectl-client-side-apply"):
        apply(live, wanted, "ci")
    scaled = changed(live, replicas=7)
    with pytest.raises(ApplyConflict, match="before-first-apply"):
        apply(scaled, wanted, "kubectl")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"metadata":[],"spec":{"containers":{"a":1}}}', "[" * 200, "\ud800"]
)
def test_an_annotation_that_is_no_configuration_owns_nothing_of_the_object(text: str) -> None:
    live = deployment(replicas=2)
    live["metadata"] = {**live["metadata"], "annotations": {LAST_APPLIED: text}}
    made = apply(live, deployment(paused=True), "kubectl")
    assert fields(made, "before-first-apply", "Update")["f:spec"] == {"f:replicas": {}}


def test_objects_that_nobody_applied_have_no_owners() -> None:
    live = deployment(replicas=2)
    assert write(live, deployment(replicas=3), "kubectl-edit") == deployment(replicas=3)


def test_containers_of_two_managers_live_side_by_side() -> None:
    made = apply(None, deployment(template=pod_template(WEB)), "ci")
    side = {"name": "proxy", "image": "proxy:1"}
    both = apply(made, deployment(template=pod_template(side)), "mesh")
    assert both["spec"]["template"]["spec"]["containers"] == [WEB, side]
    gone = apply(both, deployment(template=pod_template()), "mesh")
    assert gone["spec"]["template"]["spec"]["containers"] == [WEB]


def test_an_item_with_a_field_of_another_manager_stays_when_its_first_owner_releases_it() -> None:
    made = apply(None, deployment(template=pod_template(WEB)), "ci")
    limited = apply(made, deployment(template=pod_template({"name": "web", "tty": True})), "people")
    left = apply(limited, deployment(replicas=1), "ci")
    assert left["spec"]["template"]["spec"]["containers"] == [{"name": "web", "tty": True}]


def test_finalizers_are_a_set() -> None:
    first = deployment()
    first["metadata"]["finalizers"] = ["a/x"]
    second = deployment()
    second["metadata"]["finalizers"] = ["b/y"]
    both = apply(apply(None, first, "one"), second, "two")
    assert both["metadata"]["finalizers"] == ["a/x", "b/y"]
    assert fields(both, "two") == {"f:metadata": {"f:finalizers": {'v:"b/y"': {}}}, "f:spec": {}}
    assert apply(both, deployment(), "one")["metadata"]["finalizers"] == ["b/y"]


def test_a_selector_has_one_owner() -> None:
    made = apply(None, deployment(selector={"matchLabels": {"app": "web"}}), "ci")
    with pytest.raises(ApplyConflict, match=r"\.spec\.selector"):
        apply(made, deployment(selector={"matchLabels": {"tier": "x"}}), "people")


def test_lists_with_an_item_twice_are_one_whole_and_lose_nothing() -> None:
    twice = {**WEB, "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}
    live = deployment(replicas=1, template=pod_template(twice))
    made = apply(live, deployment(replicas=1), "ci")
    assert made["spec"]["template"]["spec"]["containers"][0]["env"] == twice["env"]


def test_a_kind_without_a_table_is_made_of_maps() -> None:
    made = apply(None, {"kind": "Valve", "spec": {"open": True, "steps": [1, 2]}}, "ci")
    assert fields(made, "ci") == {"f:spec": {"f:open": {}, "f:steps": {}}}


def test_null_is_the_same_as_absent() -> None:
    made = apply(None, deployment(replicas=2, paused=None), "ci")
    assert made["spec"] == {"replicas": 2} and fields(made, "ci") == {"f:spec": {"f:replicas": {}}}


def test_a_configuration_names_no_owners() -> None:
    config = deployment()
    config["metadata"]["managedFields"] = [{"manager": "me"}]
    with pytest.raises(BadRequest, match="managedFields must be nil"):
        apply(None, config, "ci")


def test_a_client_may_take_all_owners_away() -> None:
    made = apply(None, deployment(replicas=2), "ci")
    bare = {**made, "metadata": {**made["metadata"], "managedFields": [{}]}}
    assert managers(write(made, bare, "admin")) == []


@pytest.mark.parametrize(
    "listed",
    [
        "text", [1], [{"fieldsV1": []}], [{"fieldsV1": {"x": {}}}], [{"fieldsV1": {"f:a": 1}}], [{}] * 101,
        [{"fieldsV1": {"f:a": {f"f:{n}": {} for n in range(30_000)}}}],
    ],
)  # fmt: skip
def test_owners_that_are_none_are_refused(listed: Any) -> None:
    made = apply(None, deployment(replicas=2), "ci")
    bad = {**made, "metadata": {**made["metadata"], "managedFields": listed}}
    with pytest.raises(Invalid):
        write(made, bad, "admin")


def test_a_deep_tree_of_fields_is_refused() -> None:
    tree: Object = {}
    for _ in range(2_000):
        tree = {"f:a": tree}
    with pytest.raises(Invalid):
        field_sets.decode(tree)


def test_managers_beyond_ten_that_never_applied_become_one() -> None:
    obj = apply(None, deployment(replicas=0), "ci")
    for n in range(15):
        new = {
            **obj,
            "metadata": {**obj["metadata"], "annotations": {**obj["metadata"].get("annotations", {}), f"n{n}": "x"}},
        }
        obj = write(obj, new, f"m{n}", now=float(n))
    updaters = [manager for manager, operation in managers(obj) if operation == "Update"]
    assert len(updaters) == 10 and updaters[0] == managed_fields.ANCIENT
    assert set(fields(obj, managed_fields.ANCIENT, "Update")["f:metadata"]["f:annotations"]) == {
        f"f:n{n}" for n in range(6)
    }


names = st.sampled_from(["a", "b", "c"])
containers = st.lists(
    st.fixed_dictionaries({"name": names}, optional={"image": names, "tty": st.booleans(), "args": st.lists(names, max_size=2)}),
    max_size=3, unique_by=lambda c: c["name"],
)  # fmt: skip
specs = st.fixed_dictionaries(
    {},
    optional={
        "replicas": st.integers(0, 3),
        "paused": st.booleans(),
        "template": containers.map(lambda c: pod_template(*c)),
    },
)


@given(steps=st.lists(st.tuples(names, specs), min_size=1, max_size=6))
def test_after_a_forced_apply_all_that_it_names_is_there_and_written_down(steps: list[tuple[str, Object]]) -> None:
    live: Object | None = None
    for manager, spec in steps:
        config = deployment(**copy.deepcopy(spec))
        live = apply(live, config, manager, force=True)
        root = field_sets.root("Deployment")
        wanted = frozenset(field_sets.leaves({"spec": spec}, root))
        there = frozenset(field_sets.leaves({"spec": live["spec"]} if "spec" in live else {}, root))
        there = frozenset(path[:n] for path in there for n in range(1, len(path) + 1))
        mine = [e for e in managers(live) if e == (manager, "Apply")]
        assert bool(mine) == bool(wanted)
        if wanted:
            assert field_sets.decode(fields(live, manager)) == wanted
            assert field_sets.encode(wanted) == fields(live, manager)
        owned = frozenset().union(
            *(field_sets.decode(e["fieldsV1"]) for e in live["metadata"].get("managedFields", ()))
        )
        assert {p for p in owned if p in there} == owned, "nobody has a field that is not there"
        # the same again changes nothing
        assert apply(live, config, manager, force=True) == live
