"""Identity, time stamps and errors of objects."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.api import meta, status
from kubeedge.api.resources import DEPLOYMENTS, PODS, Resources
from kubeedge.apiserver.builtin import BUILT_IN
from kubeedge.errors import Conflict, Gone, Invalid, NotFound, Refused, Unavailable


@given(st.integers(0, 4_000_000_000))
def test_time_stamps_come_back(seconds: int) -> None:
    assert meta.parse_timestamp(meta.timestamp(seconds + 0.9)) == seconds


@pytest.mark.parametrize("text", [None, 7, "", "yesterday", "2026-01-01T00:00:00", "9" * 50, "2026-13-01T00:00:00Z"])
def test_what_is_not_a_time_stamp_is_none(text: object) -> None:
    assert meta.parse_timestamp(text) is None


def test_micro_time_is_read_too() -> None:
    assert meta.parse_timestamp("1970-01-01T00:00:01.500000Z") == 1.5


@given(st.binary(min_size=16, max_size=16))
def test_uids_are_random_uuids(raw: bytes) -> None:
    found = uuid.UUID(meta.new_uid(lambda size: raw))
    assert found.version == 4 and found.variant == uuid.RFC_4122


@given(st.text("ab-", max_size=300), st.binary(min_size=5, max_size=5))
def test_generated_names_stay_labels_long(base: str, raw: bytes) -> None:
    name = meta.generated_name(base, lambda size: raw[:size])
    assert len(name) <= 63 and name.startswith(base[:58])


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.none() | st.lists(st.integers(), max_size=2)))
def test_canonical_bytes_do_not_depend_on_order(obj: dict[str, object]) -> None:
    backwards = dict(reversed(list(obj.items())))
    assert meta.canonical(obj) == meta.canonical(backwards)
    assert meta.decode(meta.canonical(obj)) == obj


def test_null_and_absent_are_the_same() -> None:
    assert meta.without_nulls({"a": None, "b": [{"c": None}, None], "d": {}}) == {"b": [{}, None], "d": {}}


def test_the_table_of_resources_is_consistent() -> None:
    served = Resources(BUILT_IN)
    for row in served:
        resource = row.resource
        assert served.by_path(resource.group, resource.version, resource.plural) is row
        assert served.by_kind(resource.api_version, resource.kind) is row
    names = [name for row in served for name in (row.resource.plural, row.singular, *row.short_names)]
    assert len(names) - len(set(names)) == 1, "only `endpoints` is its own singular"


@pytest.mark.parametrize(
    ("error", "code", "reason", "kind"),
    [
        (status.ObjectNotFound.of(PODS, "p"), 404, "NotFound", NotFound),
        (status.AlreadyExists.of(PODS, "p"), 409, "AlreadyExists", Conflict),
        (status.ObjectModified.of(PODS, "p"), 409, "Conflict", Conflict),
        (status.InvalidObject.of(PODS, "p", [status.required("spec")]), 422, "Invalid", Invalid),
        (status.Expired("old"), 410, "Expired", Gone),
        (status.Forbidden.of(PODS, "p", "no"), 403, "Forbidden", Refused),
        (status.NodeUnreachable("far"), 504, "Timeout", Unavailable),
        (NotFound("x"), 404, "NotFound", NotFound),
        (Conflict("x", revision=3), 409, "Conflict", Conflict),
        (Invalid("x", path="a.b"), 400, "BadRequest", Invalid),
        (RuntimeError("secret"), 500, "InternalError", RuntimeError),
    ],
)
def test_errors_have_one_class_for_code_and_one_status_for_clients(
    error: Exception, code: int, reason: str, kind: type[Exception]
) -> None:
    found = status.of_error(error)
    assert isinstance(error, kind)
    assert (found["kind"], found["code"], found["reason"]) == ("Status", code, reason)
    assert "secret" not in found["message"]


def test_messages_name_the_group() -> None:
    assert str(status.ObjectNotFound.of(DEPLOYMENTS, "d")) == 'deployments.apps "d" not found'
    details = status.AlreadyExists.of(DEPLOYMENTS, "d").status()["details"]
    assert details == {"name": "d", "kind": "deployments", "group": "apps"}


def test_a_thousand_mistakes_have_an_answer_of_bounded_size() -> None:
    errors = [status.invalid(f"f{i}", "x" * 10_000, "no") for i in range(1000)]
    assert len(str(status.InvalidObject.of(PODS, "p", errors))) < 20_000
