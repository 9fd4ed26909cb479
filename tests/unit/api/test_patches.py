"""JSON patch, JSON merge patch and strategic merge patch."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.api import strategic
from kubeedge.api.patch import MAX_OPERATIONS, apply_json_patch, merge
from kubeedge.errors import Invalid

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("target", "patch", "expected"),
    [  # RFC 7386, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_the_examples_of_the_merge_patch_rfc(target: Any, patch: Any, expected: Any) -> None:
    before = copy.deepcopy(target)
    assert merge(target, patch) == expected
    assert target == before


@given(VALUES, VALUES)
def test_a_merge_patch_twice_is_a_merge_patch_once(target: Any, patch: Any) -> None:
    once = merge(target, patch)
    assert merge(once, patch) == once


@pytest.mark.parametrize(
    ("target", "operations", "expected"),
    [
        ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"foo": "bar", "baz": "qux"}),
        ({"foo": ["a", "c"]}, [{"op": "add", "path": "/foo/1", "value": "b"}], {"foo": ["a", "b", "c"]}),
        ({"foo": ["a"]}, [{"op": "add", "path": "/foo/-", "value": "b"}], {"foo": ["a", "b"]}),
        ({"foo": 1, "bar": 2}, [{"op": "remove", "path": "/foo"}], {"bar": 2}),
        ({"foo": [1, 2, 3]}, [{"op": "remove", "path": "/foo/1"}], {"foo": [1, 3]}),
        ({"foo": 1}, [{"op": "replace", "path": "/foo", "value": 2}], {"foo": 2}),
        ({"a": {"b": 1}, "c": {}}, [{"op": "move", "from": "/a/b", "path": "/c/b"}], {"a": {}, "c": {"b": 1}}),
        ({"a": [1]}, [{"op": "copy", "from": "/a", "path": "/b"}], {"a": [1], "b": [1]}),
        (
            {"a/b": 1, "m~n": 2},
            [{"op": "test", "path": "/a~1b", "value": 1}, {"op": "remove", "path": "/m~0n"}],
            {"a/b": 1},
        ),
        ({"a": 1}, [{"op": "replace", "path": "", "value": {"b": 2}}], {"b": 2}),
        ({"": 1}, [{"op": "remove", "path": "/"}], {}),
    ],
)
def test_json_patch_does_what_the_rfc_says(target: Any, operations: Any, expected: Any) -> None:
    before = copy.deepcopy(target)
    assert apply_json_patch(target, operations) == expected
    assert target == before


@pytest.mark.parametrize(
    "operations",
    [
        {},
        None,
        [1],
        [{"op": "fly", "path": "/a"}],
        [{"op": "add", "path": "a", "value": 1}],
        [{"op": "add", "path": "/a"}],
        [{"op": "add", "path": "/list/7", "value": 1}],
        [{"op": "add", "path": "/list/01", "value": 1}],
        [{"op": "add", "path": "/list/-1", "value": 1}],
        [{"op": "add", "path": "/no/where", "value": 1}],
        [{"op": "add", "path": "/a/b", "value": 1}],
        [{"op": "remove", "path": "/none"}],
        [{"op": "replace", "path": "/none", "value": 1}],
        [{"op": "test", "path": "/a", "value": True}],
        [{"op": "move", "from": "/list", "path": "/list/0"}],
        [{"op": "remove", "path": "/list/-"}],
        [{"op": "test", "path": "/a", "value": 1}] * (MAX_OPERATIONS + 1),
    ],
)
def test_a_json_patch_that_does_not_fit_is_refused(operations: Any) -> None:
    with pytest.raises(Invalid):
        apply_json_patch({"a": 1, "list": [0]}, operations)


def test_copies_cannot_double_themselves_into_gigabytes() -> None:
    doubling = [{"op": "copy", "from": "/a", "path": "/a/-"}] * 60
    with pytest.raises(Invalid, match="copy operations"):
        apply_json_patch({"a": [["x" * 1000]]}, doubling)


def spec(*containers: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"spec": {"containers": list(containers), **more}}


def strategic_pod(target: dict[str, Any], patch: Any) -> Any:
    before = copy.deepcopy(target)
    result = strategic.apply("Pod", target, patch)
    assert target == before
    return result


def test_containers_merge_by_name() -> None:
    live = spec({"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}, {"name": "b", "image": "1"})
    patch = spec(
        {"name": "b", "image": "2"}, {"name": "c", "image": "3"}, {"name": "a", "env": [{"name": "Y", "value": "2"}]}
    )
    assert strategic_pod(live, patch)["spec"]["containers"] == [
        {"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]},
        {"name": "b", "image": "2"},
        {"name": "c", "image": "3"},
    ]


def test_an_item_is_deleted_by_its_key() -> None:
    live = spec({"name": "a"}, {"name": "b"})
    assert strategic_pod(live, spec({"$patch": "delete", "name": "a"})) == spec({"name": "b"})


def test_a_list_is_replaced_when_the_patch_says_so() -> None:
    live = spec({"name": "a"}, {"name": "b"})
    assert strategic_pod(live, spec({"name": "c"}, {"$patch": "replace"})) == spec({"name": "c"})


def test_an_object_is_replaced_or_deleted_when_the_patch_says_so() -> None:
    live = {"metadata": {"labels": {"a": "1", "b": "2"}}}
    replace = {"metadata": {"labels": {"$patch": "replace", "c": "3"}}}
    assert strategic_pod(live, replace) == {"metadata": {"labels": {"c": "3"}}}
    assert strategic_pod(live, {"metadata": {"labels": {"$patch": "delete"}}}) == {"metadata": {"labels": {}}}


def test_lists_without_a_key_are_replaced() -> None:
    live = spec({"name": "a", "args": ["1", "2"]}, tolerations=[{"key": "x"}])
    patch = spec({"name": "a", "args": ["3"]}, tolerations=[{"key": "y"}])
    assert strategic_pod(live, patch) == patch


def test_finalizers_merge_as_a_set_and_leave_by_name() -> None:
    live = {"metadata": {"finalizers": ["a", "b"]}}
    assert strategic_pod(live, {"metadata": {"finalizers": ["c", "a"]}}) == {
        "metadata": {"finalizers": ["a", "b", "c"]}
    }
    assert strategic_pod(live, {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}) == {
        "metadata": {"finalizers": ["b"]}
    }


def test_null_removes_and_a_null_inside_something_new_is_nothing() -> None:
    live = spec({"name": "a", "image": "1"}, nodeName="n")
    patch = {"spec": {"nodeName": None, "securityContext": {"runAsUser": None, "fsGroup": 1}}}
    assert strategic_pod(live, patch) == spec({"name": "a", "image": "1"}, securityContext={"fsGroup": 1})


def test_retain_keys_drops_the_other_source_of_a_volume() -> None:
    live = {"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}
    patch = {"spec": {"volumes": [{"$retainKeys": ["name", "configMap"], "name": "v", "configMap": {"name": "c"}}]}}
    assert strategic_pod(live, patch) == {"spec": {"volumes": [{"name": "v", "configMap": {"name": "c"}}]}}


def test_the_order_of_the_client_holds_and_items_of_others_keep_their_place() -> None:
    live = spec({"name": "a"}, {"name": "sidecar"}, {"name": "b"})
    patch = {"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": []}}
    names = [c["name"] for c in strategic_pod(live, patch)["spec"]["containers"]]
    assert sorted(names) == ["a", "b", "sidecar"] and names.index("b") < names.index("a")
    same = {"spec": {"$setElementOrder/containers": [{"name": "a"}, {"name": "b"}], "containers": []}}
    assert [c["name"] for c in strategic_pod(live, same)["spec"]["containers"]] == ["a", "sidecar", "b"]


@pytest.mark.parametrize(
    "patch",
    [
        None,
        [],
        1,
        {"$patch": "explode"},
        spec({"image": "no name"}),
        {"spec": {"containers": ["text"]}},
        {"spec": {"$setElementOrder/containers": 1}},
        {"spec": {"$retainKeys": "x"}},
        {"metadata": {"$deleteFromPrimitiveList/finalizers": 7}},
    ],
)
def test_a_strategic_patch_that_makes_no_sense_is_refused(patch: Any) -> None:
    with pytest.raises(Invalid):
        strategic.apply("Pod", spec({"name": "a"}), patch)


def test_a_kind_without_a_schema_has_no_strategic_patch() -> None:
    with pytest.raises(Invalid, match="use a merge patch"):
        strategic.apply("Flower", {}, {})


@given(VALUES)
def test_no_value_breaks_the_strategic_patch(patch: Any) -> None:
    for wrapped in (patch, {"spec": patch}, {"spec": {"containers": patch}}, {"metadata": {"labels": patch}}):
        try:
            strategic.apply("Pod", spec({"name": "a", "ports": [{"containerPort": 1}]}), wrapped)
        except Invalid as exc:
            assert str(exc)


def test_a_patch_of_a_hundred_thousand_items_takes_linear_time() -> None:
    items = [{"name": str(i), "image": "x"} for i in range(100_000)]
    patch = {"spec": {"$setElementOrder/containers": [{"name": i["name"]} for i in items], "containers": items}}
    assert len(strategic.apply("Pod", spec(), patch)["spec"]["containers"]) == 100_000
