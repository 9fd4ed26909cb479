"""Label and field selectors: the grammar of `kubectl get -l` and `--field-selector`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.api.selectors import matcher, of_selector, parse_fields, parse_labels, requirement_of
from kubeedge.errors import Invalid

WEB = {"app": "web", "tier": "front", "rank": "7", "example.com/x": "y", "empty": ""}


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        ("", True),
        ("  ", True),
        ("app=web", True),
        ("app==web", True),
        ("app = web , tier=front", True),
        ("app=web,tier=back", False),
        ("app!=db", True),
        ("missing!=db", True),
        ("app", True),
        ("missing", False),
        ("!app", False),
        ("!missing", True),
        ("app in (web,db)", True),
        ("app in (db)", False),
        ("app notin (db, cache)", True),
        ("missing notin (db)", True),
        ("missing in (db)", False),
        ("example.com/x=y", True),
        ("empty=", True),
        ("empty in (,a)", True),
        ("rank>6,rank<8", True),
        ("rank>7", False),
        ("app>6", False),
    ],
)
def test_a_label_selector_matches_as_kubectl_says(selector: str, matches: bool) -> None:
    assert parse_labels(selector).matches(WEB) is matches


@pytest.mark.parametrize(
    "selector",
    [
        "=",
        "a=b=c",
        "a in b",
        "a in (b",
        "a in (b c)",
        ",a",
        "a,",
        "a,,b",
        "!",
        "-a=b",
        "a=-b-",
        "a b",
        "(a)",
        "a>b",
        "x" * 20000,
    ],
)
def test_a_label_selector_that_makes_no_sense_is_refused(selector: str) -> None:
    with pytest.raises(Invalid):
        parse_labels(selector)


@given(st.text(alphabet="ab=!,()<> in", max_size=40))
def test_no_text_breaks_the_parser(text: str) -> None:
    try:
        parse_labels(text).matches(WEB)
    except Invalid as exc:
        assert str(exc)


@given(
    st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["x", "y", ""]), max_size=4),
    st.sampled_from("abcd"),
    st.sets(st.sampled_from(["x", "y"]), min_size=1),
)
def test_in_and_notin_are_opposites(labels: dict[str, str], key: str, values: set[str]) -> None:
    joined = ",".join(sorted(values))
    is_in = parse_labels(f"{key} in ({joined})").matches(labels)
    assert parse_labels(f"{key} notin ({joined})").matches(labels) is not is_in


def test_a_selector_of_a_workload_joins_labels_and_expressions() -> None:
    selector = of_selector(
        {
            "matchLabels": {"app": "web"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["front", "back"]},
                {"key": "old", "operator": "DoesNotExist"},
            ],
        }
    )
    assert selector.matches(WEB)
    assert not selector.matches({**WEB, "old": "1"})
    assert not selector.matches({"app": "web"})


@pytest.mark.parametrize(
    "expression",
    [None, {}, {"key": "a", "operator": "Is"}, {"key": "a", "operator": "In"}, {"key": 1, "operator": "Exists"}],
)
def test_a_broken_expression_is_refused(expression: object) -> None:
    with pytest.raises(Invalid):
        requirement_of(expression)


POD = {
    "metadata": {"name": "p", "namespace": "n", "labels": {"app": "web"}},
    "spec": {"nodeName": "edge1"},
    "status": {"phase": "Running"},
}
FIELDS = ("spec.nodeName", "status.phase", "spec.unschedulable", "source")


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        ("", True),
        ("metadata.name=p", True),
        ("metadata.name==p,metadata.namespace=n", True),
        ("spec.nodeName!=edge1", False),
        ("status.phase!=Failed,status.phase!=Succeeded", True),
        ("spec.nodeName=", False),
        ("spec.unschedulable=false", True),
    ],
)
def test_a_field_selector_matches(selector: str, matches: bool) -> None:
    assert parse_fields(selector, FIELDS).matches(POD) is matches


@pytest.mark.parametrize("selector", ["spec.other=1", "nonsense", "=", "metadata.name"])
def test_a_field_that_cannot_be_selected_is_refused(selector: str) -> None:
    with pytest.raises(Invalid):
        parse_fields(selector, FIELDS)


def test_a_comma_in_a_value_is_escaped() -> None:
    assert parse_fields(r"spec.nodeName=a\,b", FIELDS).terms == (("spec.nodeName", True, "a,b"),)


def test_the_source_of_an_event_is_its_component() -> None:
    assert parse_fields("source=kubelet", FIELDS).matches({"source": {"component": "kubelet"}})


def test_nothing_to_select_means_no_predicate() -> None:
    assert matcher(parse_labels(""), parse_fields("", FIELDS)) is None
    both = matcher(parse_labels("app=web"), parse_fields("metadata.name=q", FIELDS))
    assert both is not None and not both(POD)
