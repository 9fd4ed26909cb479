"""The rows of rules.kubeedge.io: what `kubectl` sees of a Rule and of a RuleEndpoint. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubeedge.api import meta, rules
from kubeedge.api.names import Object
from kubeedge.api.resources import Column, Printer, Row, Strategy
from kubeedge.apiserver.durations import age


def _age(obj: Object, now: float) -> str:
    return age(meta.metadata(obj).get("creationTimestamp"), now)


def _rule(obj: Object, now: float) -> Sequence[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    counts = (status.get(name) or 0 for name in ("successMessages", "failMessages"))
    return meta.name_of(obj), spec.get("source"), spec.get("target"), *counts, _age(obj, now)


def _endpoint(obj: Object, now: float) -> Sequence[Any]:
    return meta.name_of(obj), rules.kind_of(obj), _age(obj, now)


ROWS: tuple[Row, ...] = (
    Row(
        rules.RULES,
        "rule",
        categories=("kubeedge",),
        subresources=("status",),
        counts_generation=True,
        strategy=Strategy("Rule", strategic=False, validate=rules.rule),
        printer=Printer(
            [
                Column("Name"),
                Column("Source"),
                Column("Target"),
                Column("Success", "integer"),
                Column("Fail", "integer"),
                Column("Age"),
            ],
            _rule,
        ),
    ),
    Row(
        rules.RULEENDPOINTS,
        "ruleendpoint",
        short_names=("re",),
        categories=("kubeedge",),
        counts_generation=True,
        strategy=Strategy("RuleEndpoint", strategic=False, validate=rules.endpoint),
        printer=Printer([Column("Name"), Column("Type"), Column("Age")], _endpoint),
    ),
)
