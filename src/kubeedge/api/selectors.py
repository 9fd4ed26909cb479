"""Label selectors and field selectors: parsing and matching.

Label selectors have the grammar of `kubectl get -l`: `a=b`, `a==b`, `a!=b`, `a in (b,c)`, `a notin (b,c)`, `a`, `!a`,
joined by commas (all must hold). Field selectors have `path=value`, `path==value`, `path!=value`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from kubeedge.api.meta import field_of, labels_of, name_of
from kubeedge.api.names import Object
from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass

_MAX_LENGTH = 16 * 1024
_MAX_TERMS = 200  # of one selector; each is asked of each object
_TOKEN = re.compile(r"\s*(==|!=|=|!|,|\(|\)|[^\s=!,()<>]+|[<>])")
_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_PREFIX = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def is_label_key(text: str) -> bool:
    """Whether `text` is a qualified name: [PREFIX/]NAME."""
    prefix, slash, name = text.rpartition("/")
    return bool(_NAME.fullmatch(name)) and (not slash or (len(prefix) <= 253 and bool(_PREFIX.fullmatch(prefix))))


def is_label_value(text: str) -> bool:
    """Whether `text` can be the value of a label: at most 63 characters, or empty."""
    return text == "" or bool(_NAME.fullmatch(text))


@dataclass(frozen=True, slots=True)
class Requirement:
    """One term of a label selector."""

    key: str
    operator: str  # In, NotIn, Exists, DoesNotExist, Gt, Lt
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """As in Kubernetes, an absent label satisfies NotIn and DoesNotExist; Gt and Lt need integers on both sides."""
        present = self.key in labels
        match self.operator:
            case "In":
                return present and labels[self.key] in self.values
            case "NotIn":
                return not present or labels[self.key] not in self.values
            case "Exists":
                return present
            case "DoesNotExist":
                return not present
        bound, value = _integer(next(iter(self.values), "")), _integer(labels.get(self.key, ""))
        if bound is None or value is None:
            return False
        return value > bound if self.operator == "Gt" else value < bound


def _integer(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[+-]?[0-9]{1,18}", text) else None


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """Requirements that must all hold; none of them: everything matches."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """All requirements hold; a selector without any matches every object."""
        return all(requirement.matches(labels) for requirement in self.requirements)


EVERYTHING = LabelSelector()


def parse_labels(text: str) -> LabelSelector:
    """Raises Invalid that says where the selector stops making sense."""
    if not text.strip():
        return EVERYTHING
    return LabelSelector(tuple(_LabelParser(text).requirements()))


class _LabelParser:
    def __init__(self, text: str) -> None:
        if len(text) > _MAX_LENGTH:
            raise Invalid(f"a label selector of {len(text)} characters is longer than {_MAX_LENGTH}")
        self._text = text
        self._tokens: list[str] = []
        position, end = 0, len(text.rstrip())
        while position < end:
            match = _TOKEN.match(text, position)
            if match is None:
                raise self._error(text[position:])
            self._tokens.append(match[1])
            position = match.end()
        self._at = 0

    def _error(self, found: str) -> Invalid:
        return Invalid(f"unable to parse requirement: found {found[:64]!r} in label selector {self._text[:256]!r}")

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _next(self) -> str:
        token = self._peek()
        self._at += 1
        return token

    def requirements(self) -> list[Requirement]:
        found = [self._requirement()]
        while self._peek() == ",":
            self._next()
            found.append(self._requirement())
            if len(found) > _MAX_TERMS:
                raise Invalid(f"a label selector has more than {_MAX_TERMS} requirements")
        if self._peek():
            raise self._error(self._peek())
        return found

    def _requirement(self) -> Requirement:
        if self._peek() == "!":
            self._next()
            return Requirement(self._key(), "DoesNotExist")
        key = self._key()
        match self._peek():
            case "" | ",":
                return Requirement(key, "Exists")
            case "=" | "==":
                self._next()
                return Requirement(key, "In", frozenset((self._value(),)))
            case "!=":
                self._next()
                return Requirement(key, "NotIn", frozenset((self._value(),)))
            case "in":
                self._next()
                return Requirement(key, "In", self._set())
            case "notin":
                self._next()
                return Requirement(key, "NotIn", self._set())
            case "<" | ">" as sign:
                self._next()
                value = self._value()
                if _integer(value) is None:
                    raise Invalid(f"label selector {self._text[:256]!r} compares with {value!r}, not an integer")
                return Requirement(key, "Lt" if sign == "<" else "Gt", frozenset((value,)))
        raise self._error(self._peek())

    def _key(self) -> str:
        key = self._next()
        if not is_label_key(key):
            raise self._error(key)
        return key

    def _value(self) -> str:
        """May be empty: `a=` asks for an empty value."""
        if self._peek() in ("", ","):
            return ""
        value = self._next()
        if not is_label_value(value):
            raise self._error(value)
        return value

    def _set(self) -> frozenset[str]:
        if self._next() != "(":
            raise self._error(self._text)
        values: list[str] = []
        while True:
            values.append("" if self._peek() in (",", ")") else self._value())
            match self._next():
                case ")":
                    return frozenset(values)
                case ",":
                    continue
                case other:
                    raise self._error(other)


def of_selector(selector: Any) -> LabelSelector:
    """A LabelSelector of a workload's spec ({matchLabels, matchExpressions}). Raises Invalid."""
    if not isinstance(selector, dict):
        raise Invalid("selector is not an object")
    labels = selector.get("matchLabels") or {}
    expressions = selector.get("matchExpressions") or []
    if not isinstance(labels, dict) or not isinstance(expressions, list):
        raise Invalid("matchLabels must be an object and matchExpressions a list")
    if len(labels) + len(expressions) > _MAX_TERMS:
        raise Invalid(f"a selector has more than {_MAX_TERMS} requirements")
    found = [Requirement(str(key), "In", frozenset((str(value),))) for key, value in sorted(labels.items())]
    return LabelSelector((*found, *(requirement_of(expression) for expression in expressions)))


def requirement_of(expression: Any) -> Requirement:
    """One {key, operator, values} of matchExpressions (node affinity's Gt and Lt too). Raises Invalid."""
    if not isinstance(expression, dict):
        raise Invalid("a match expression is not an object")
    key, operator, values = expression.get("key"), expression.get("operator"), expression.get("values") or []
    if not isinstance(key, str) or not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        raise Invalid(f"match expression {expression!r:.200} needs a key and a list of strings")
    if operator not in ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"):
        raise Invalid(f"{operator!r:.64} is not a valid selector operator")
    if operator in ("In", "NotIn") and not values:
        raise Invalid(f"values of {key!r:.320} must be given for operator {operator}")
    return Requirement(key, operator, frozenset(values))


#: one of nodeSelectorTerms: requirements on labels, and on fields
NodeTerm = tuple[Sequence[Requirement], Sequence[Requirement]]


def node_term(term: Mapping[str, Any]) -> NodeTerm | None:
    """None: it matches nothing, as one without expressions does, and one that cannot be understood."""
    try:
        expressions = [requirement_of(e) for e in term.get("matchExpressions") or ()]
        fields = [requirement_of(f) for f in term.get("matchFields") or ()]
    except Invalid:
        return None
    return (expressions, fields) if expressions or fields else None


def matches_node_term(term: NodeTerm | None, node: Object) -> bool:
    """All expressions must hold."""
    if term is None:
        return False
    labels, names = labels_of(node), {"metadata.name": name_of(node)}
    return all(one.matches(labels) for one in term[0]) and all(one.matches(names) for one in term[1])


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """(path, equal, value): all must hold. A field that is missing is the empty string, as in Kubernetes."""

    terms: tuple[tuple[str, bool, str], ...] = ()

    def matches(self, obj: Object) -> bool:
        """All terms hold; values are compared as text."""
        return all((_text(field_of(obj, path), path) == value) is equal for path, equal, value in self.terms)

    def exact(self, path: str) -> str | None:
        """The value that `path` must have, when the selector fixes it."""
        return next((value for name, equal, value in self.terms if equal and name == path), None)


_FLAGS = ("spec.unschedulable", "spec.hostNetwork")


def _text(value: Any, path: str) -> str:
    if value is None:
        return "false" if path in _FLAGS else ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def parse_fields(text: str, supported: Collection[str]) -> FieldSelector:
    """Raises Invalid for a field that is not in `supported` (metadata.name and metadata.namespace always are)."""
    if not text.strip():
        return FieldSelector()
    if len(text) > _MAX_LENGTH:
        raise Invalid(f"a field selector of {len(text)} characters is longer than {_MAX_LENGTH}")
    terms: list[tuple[str, bool, str]] = []
    for term in _split_terms(text):
        match = re.match(r"([^=!]+)(==|!=|=)(.*)", term, re.DOTALL)
        if match is None:
            raise Invalid(f"invalid selector: {term[:256]!r}; can't understand {term[:256]!r}")
        path, operator, value = match[1].strip(), match[2], re.sub(r"\\(.)", r"\1", match[3])
        if path not in ("metadata.name", "metadata.namespace") and path not in supported:
            raise Invalid(f"field label not supported: {path}")
        # Event.source is an object; its component is what the selector means.
        terms.append(("source.component" if path == "source" else path, operator != "!=", value))
    return FieldSelector(tuple(terms))


def _split_terms(text: str) -> Sequence[str]:
    """Split at commas that no backslash escapes."""
    terms = [term for term in re.split(r"(?<!\\),", text) if term]
    if len(terms) > _MAX_TERMS:
        raise Invalid(f"a field selector has more than {_MAX_TERMS} terms")
    return terms


def matcher(labels: LabelSelector, fields: FieldSelector) -> Callable[[Object], bool] | None:
    """One predicate for both; None when everything matches."""
    if not labels.requirements and not fields.terms:
        return None
    return lambda obj: labels.matches(labels_of(obj)) and fields.matches(obj)
