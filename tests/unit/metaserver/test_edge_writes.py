"""A write as changed fields: what diff finds, apply merges; what cannot be merged is the cloud's; what is no write is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.api import edge_writes
from kubeedge.api.edge_writes import EdgeWrite, FieldChange
from kubeedge.errors import Invalid

LEAVES = st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab", max_size=3) | st.just("long" * 50)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("xyz", min_size=1, max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)
OBJECTS = st.fixed_dictionaries(
    {"metadata": st.fixed_dictionaries({"name": st.just("a")}, optional={"labels": st.dictionaries(st.text("kl", min_size=1, max_size=2), st.text("v", min_size=1, max_size=2), min_size=1, max_size=3)})},
    optional={"data": st.dictionaries(st.text("xyz", min_size=1, max_size=2), LEAVES, min_size=1, max_size=4)},
)  # fmt: skip


def write(**more: Any) -> EdgeWrite:
    fields: dict[str, Any] = {
        "id": "0123456789abcdef",  "operation": "change", "resource": "configmaps", "namespace": "default",
        "name": "web", "at": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    return EdgeWrite(**{**fields, **more})


@given(OBJECTS, OBJECTS)
def test_what_differs_makes_the_new_object_of_the_old_one(old: Any, new: Any) -> None:
    made, conflicts = edge_writes.apply(old, edge_writes.diff(old, new))
    assert (made, conflicts) == (new, [])


@given(OBJECTS, OBJECTS)
def test_a_write_that_comes_twice_changes_nothing_the_second_time(old: Any, new: Any) -> None:
    changes = edge_writes.diff(old, new)
    once, _ = edge_writes.apply(old, changes)
    assert edge_writes.apply(once, changes) == (once, [])


@given(OBJECTS, OBJECTS, OBJECTS)
def test_of_two_changes_to_one_field_the_cloud_s_stays_and_the_others_are_merged(
    base: Any, edge: Any, cloud: Any
) -> None:
    changes = edge_writes.diff(base, edge)
    made, conflicts = edge_writes.apply(cloud, changes)
    for change in changes:
        here = edge_writes._get(made, change.path)
        if change.path in conflicts:
            assert edge_writes._same(here, edge_writes._get(cloud, change.path))
        else:
            assert edge_writes._same(here, change.now) or change.now is edge_writes.ABSENT


@given(OBJECTS, OBJECTS)
def test_a_write_survives_its_bytes(old: Any, new: Any) -> None:
    one = write(changes=edge_writes.diff(old, new), uid="u", grace=3)
    assert edge_writes.decode(edge_writes.encode(one)) == one


@given(st.binary(max_size=200) | VALUES.map(lambda v: edge_writes._canonical(v)))
def test_bytes_that_are_no_write_are_refused(data: bytes) -> None:
    with pytest.raises(Invalid):
        edge_writes.decode(data)


@pytest.mark.parametrize(
    "spoiled",
    [
            {"name": "a/../../b"}, {"name": None}, {"resource": ["pods"]},
        {"operation": "create"}, {"changes": {}}, {"changes": [None]}, {"changes": [{"path": []}]},
        {"changes": [{"path": ["a"] * 17}]}, {"changes": [{"path": [1]}]}, {"changes": [{"path": ["data", "x"]}] * 513},
        {"id": None}, {"grace": 2**63}, {"grace": -1}, {"grace": True}, {"grace": "now"}, {"namespace": "x" * 254},
    ],
    ids=str,
)  # fmt: skip
def test_a_write_with_one_wrong_field_is_refused(spoiled: dict[str, Any]) -> None:
    import json

    body = {**json.loads(edge_writes.encode(write())), **spoiled}
    with pytest.raises(Invalid):
        edge_writes.decode(json.dumps(body).encode())


def test_a_write_of_which_a_bit_flipped_is_no_write() -> None:
    """Whatever bit it is, in a name or in a value: the only copy must not win when it is wrong."""
    write = edge_writes.EdgeWrite(
        id="w1",
        operation="change",
        resource="configmaps",
        namespace="default",
        name="web",
        changes=(edge_writes.FieldChange(("data", "a"), "new value", "old"),),
    )
    data = edge_writes.encode(write)
    assert edge_writes.decode(data) == write
    for place in range(len(data) * 8):
        rotten = bytearray(data)
        rotten[place // 8] ^= 1 << place % 8
        try:
            assert edge_writes.decode(bytes(rotten)) == write and b'"sum"' not in rotten, "only its name may go"
        except Invalid:
            continue


def test_a_write_of_an_older_agent_has_no_sum() -> None:
    data = b'{"id":"w1","operation":"delete","resource":"pods","namespace":"default","name":"p","at":"","grace":30}'
    assert edge_writes.decode(data).grace == 30


def test_a_body_as_deep_as_a_well_is_refused() -> None:
    with pytest.raises(Invalid):
        edge_writes.decode(b'{"changes":' + b"[" * 100_000 + b"]" * 100_000 + b"}")


def test_true_is_not_one_and_one_is_not_true() -> None:
    (change,) = edge_writes.diff({"data": {"x": True}}, {"data": {"x": "now"}})
    assert not change.fits(1) and change.fits(True)


def test_a_long_value_from_before_travels_as_its_digest() -> None:
    old, new = {"data": {"x": "a" * 10_000}}, {"data": {"x": "b"}}
    encoded = edge_writes.encode(write(changes=edge_writes.diff(old, new)))
    assert len(encoded) < 500
    back = edge_writes.decode(encoded)
    assert edge_writes.apply(old, back.changes) == (new, [])
    assert edge_writes.apply({"data": {"x": "c" * 10_000}}, back.changes)[1] == [("data", "x")]


@pytest.mark.parametrize(
    ("resource", "path"),
    [
        ("pods", ("spec", "nodeName")), ("pods", ("metadata", "ownerReferences")), ("pods", ("metadata", "labels", "app.kubernetes.io/name")),
        ("pods", ("status",)), ("nodes", ("spec", "taints")), ("nodes", ("metadata", "labels", "node-role.kubernetes.io/master")),
        ("nodes", ("metadata", "annotations", "kubeedge.io/managed")), ("configmaps", ("metadata", "annotations", "kubeedge.io/edge-writes")),
        ("configmaps", ("metadata", "finalizers")), ("configmaps", ("immutable",)), ("configmaps", ("data", "a", "b")), ("configmaps", ("data",)),
        ("secrets", ("type",)), ("deployments", ("spec",)), ("../../tenants", ("data", "x")),
    ],
    ids=str,
)  # fmt: skip
def test_what_no_node_may_change(resource: str, path: tuple[str, ...]) -> None:
    assert edge_writes.forbidden(write(resource=resource, changes=(FieldChange(path, "x"),)))


@pytest.mark.parametrize(
    ("resource", "path"),
    [
        ("pods", ("metadata", "labels", "app")), ("pods", ("metadata", "annotations", "example.com/x")), ("nodes", ("spec", "unschedulable")),
        ("nodes", ("metadata", "labels", "site")), ("configmaps", ("data", "a.conf")), ("configmaps", ("binaryData", "a")), ("secrets", ("data", "key")),
    ],
    ids=str,
)  # fmt: skip
def test_what_a_node_may_change(resource: str, path: tuple[str, ...]) -> None:
    assert edge_writes.forbidden(write(resource=resource, changes=(FieldChange(path, "x"),))) == ""


def test_only_pods_are_deleted_at_the_edge() -> None:
    assert edge_writes.forbidden(write(operation="delete", resource="pods")) == ""
    assert edge_writes.forbidden(write(operation="delete", resource="configmaps"))
