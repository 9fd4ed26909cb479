"""Go's templates as far as the chart goes, --set, and the check by a schema."""

from __future__ import annotations

import pytest

from kubeedge.errors import Invalid
from kubeedge_cloud.install.functions import merged
from kubeedge_cloud.install.template import Templates
from kubeedge_cloud.install.values import check, with_sets

VALUES = {"a": {"b": "x"}, "list": ["p", "q"], "on": True, "off": False, "n": 3, "none": None, "empty": {}}


def render(text: str) -> str:
    return Templates({"f": text}).render("f", {"Values": VALUES})


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("{{ .Values.a.b }}", "x"),
        ("a {{- .Values.n -}} b", "a3b"),
        ("a\n  {{- /* nothing */ -}}\n  b", "ab"),
        ("{{ if .Values.off }}1{{ else if .Values.on }}2{{ else }}3{{ end }}", "2"),
        ("{{ with .Values.empty }}1{{ else }}{{ .Values.n }}{{ end }}", "3"),
        ("{{ with .Values.a }}{{ .b }}{{ $.Values.n }}{{ end }}", "x3"),
        ("{{ range .Values.list }}{{ . }},{{ end }}", "p,q,"),
        ("{{ range $i, $v := .Values.list }}{{ $i }}{{ $v }}{{ end }}", "0p1q"),
        ("{{ range $k, $v := .Values.a }}{{ $k }}={{ $v }}{{ end }}", "b=x"),
        ("{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ end }}{{ $x }}", "2"),
        ("{{ $x := 1 }}{{ if true }}{{ $x := 2 }}{{ end }}{{ $x }}", "1"),
        ('{{ .Values.none | default "d" }}', "d"),
        ('{{ printf "%s-%d-%q" .Values.a.b .Values.n "y" }}', 'x-3-"y"'),
        ("{{ (list 1 2 | first) }}{{ (dict \"k\" 5).k }}", "15"),
        ('{{ define "t" }}<{{ . }}>{{ end }}{{ include "t" "v" }}', "<v>"),
        ("{{ toYaml .Values.a | nindent 2 }}", "\n  b: x"),
        ("{{ and .Values.off (fail `no`) }}", "false"),
        ("{{ or .Values.on (fail `no`) }}", "true"),
        ('{{ list "<" | toJson }}', '["\\u003c"]'),
        ("{{ .Values.none }}", ""),
    ],
)  # fmt: skip
def test_what_go_would_write(text: str, result: str) -> None:
    assert render(text) == result


@pytest.mark.parametrize(
    "text",
    [
        "{{ if true }}",
        "{{ end }}",
        "{{ env `HOME` }}",
        "{{ $x }}",
        "{{ .Values.none.x }}",
        "{{ .Values.a }}",
        "{{ include `t` . }}",
        '{{ define "t" }}{{ include "t" . }}{{ end }}{{ include "t" . }}',
        "{{ fail `this` }}",
        "{{ ( }}",
        "{{ 1 2 }}",
        "{{ len }}",
        "{{ = }}",
        "{{ if true }}" * 99,
        f"{{{{ {'(' * 99} }}}}",
    ],
)
def test_what_is_wrong_is_an_error_of_ours(text: str) -> None:
    with pytest.raises(Invalid):
        render(text)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("a=1,b=x", {"a": 1, "b": "x"}),
        ("a.b.c=true", {"a": {"b": {"c": True}}}),
        ("a={1,x}", {"a": [1, "x"]}),
        ("a={}", {"a": []}),
        (r"a\.b=c\,d", {"a.b": "c,d"}),
        ("a[0].b=1,a[1].b=2", {"a": [{"b": 1}, {"b": 2}]}),
        ("a=007", {"a": "007"}),
        ("a=", {"a": ""}),
        ("a=b=c", {"a": "b=c"}),
        ("gone=null", {"gone": None}),
    ],
)
def test_set_as_helm_reads_it(text: str, result: dict[str, object]) -> None:
    assert with_sets({}, [text]) == result


@pytest.mark.parametrize("text", ["a", "=1", "a={1", "a[9]=1", "a[0][9]=1", "a={x}y", "a=1,b"])
def test_set_that_is_none(text: str) -> None:
    with pytest.raises(Invalid):
        with_sets({}, [text])


def test_values_of_the_caller_stay_as_they_are() -> None:
    given = {"a": {"b": [1]}}
    with_sets(given, ["a.b[0]=2"])
    assert given == {"a": {"b": [1]}}
    assert merged({"a": {"b": 1, "c": 2}}, {"a": {"b": None, "d": 3}}) == {"a": {"c": 2, "d": 3}}


def test_a_schema_is_kept() -> None:
    schema = {"type": "object", "required": ["x"], "additionalProperties": False, "properties": {"x": {"minimum": 1}}}
    check({"x": 1}, schema)
    for bad in ({}, {"x": 0}, {"x": 1, "y": 1}, []):
        with pytest.raises(Invalid):
            check(bad, schema)
