"""What a service account may do: rules as RBAC has them, and whether they allow a request. Pure.

The embedded API has no Roles. An account may look at what is served and ask about itself; its annotation kubeedge.io/access gives it more in
its own namespace, in the sense of Kubernetes' roles of these names: "view" reads all but Secrets, "edit" reads and writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kubeedge.api import meta
from kubeedge.api.names import Object
from kubeedge.api.resources import Row
from kubeedge.kit.dataclasses import dataclass

ACCESS = "kubeedge.io/access"  # annotation of a ServiceAccount: "view" or "edit"
READS = ("get", "list", "watch")
_HIDDEN = ("secrets",)  # from "view": a Secret may be the token of a stronger account
_KEPT = ("serviceaccounts",)  # from writes of "edit": an account does not give itself more

PolicyRule = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Attributes:
    """A request on a resource, as authorizers see it."""

    verb: str
    group: str
    resource: str  # with its subresource: pods/log
    namespace: str = ""
    name: str = ""


def granted(account: Object, rows: Iterable[Row]) -> list[PolicyRule]:
    """The rules of an account of the embedded API, for its own namespace; `rows` are what is served."""
    level = str((meta.metadata(account).get("annotations") or {}).get(ACCESS) or "")
    if level not in ("view", "edit"):
        return []
    names: dict[str, list[str]] = {}
    for row in rows:
        if row.resource.namespaced and not (level == "view" and row.resource.plural in _HIDDEN):
            subresources = [s for s in row.subresources if s in ("status", "scale", "log", "methods")]
            names.setdefault(row.resource.group, []).extend(
                (row.resource.plural, *(f"{row.resource.plural}/{s}" for s in subresources))
            )
    rules: list[PolicyRule] = [
        {"verbs": list(READS), "apiGroups": [group], "resources": found} for group, found in names.items()
    ]
    if level == "edit":
        verbs = ["create", "update", "patch", "delete", "deletecollection"]
        for group, found in names.items():
            changed = [name for name in found if name not in _KEPT and not name.endswith(("/status", "/log"))]
            rules.append({"verbs": verbs, "apiGroups": [group], "resources": changed})
    return rules


def allows(rules: Sequence[PolicyRule], asked: Attributes) -> bool:
    """Whether any of the rules, which are of the namespace that is asked about, allows it."""
    return any(_covers(rule, asked) for rule in rules)


def _covers(rule: PolicyRule, asked: Attributes) -> bool:
    _, _, subresource = asked.resource.partition("/")
    resources = {"*", asked.resource, *([f"*/{subresource}"] if subresource else [])}
    names = _texts(rule, "resourceNames")
    return (
        not {"*", asked.verb}.isdisjoint(_texts(rule, "verbs"))
        and not {"*", asked.group}.isdisjoint(_texts(rule, "apiGroups"))
        and not resources.isdisjoint(_texts(rule, "resources"))
        and (not names or asked.name in names)
    )


def _texts(rule: PolicyRule, key: str) -> list[str]:
    found = rule.get(key)
    return [text for text in found if isinstance(text, str)] if isinstance(found, list) else []
