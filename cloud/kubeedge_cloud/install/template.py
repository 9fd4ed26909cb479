"""Runs the trees of syntax.py on values. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from kubeedge.errors import Invalid
from kubeedge_cloud.install.functions import FUNCTIONS, Failed, is_true, text
from kubeedge_cloud.install.syntax import (
    Assign,
    Block,
    CallNode,
    Expression,
    FieldNode,
    Literal,
    Node,
    Show,
    Text,
    parse,
)

_MAX_INCLUDES = 50


class Templates:
    """All files of a chart's templates; `include` finds what any of them defines."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        self._files: dict[str, tuple[Node, ...]] = {}
        self._defined: dict[str, tuple[Node, ...]] = {}
        for name, source in sources.items():
            self._files[name], defined = parse(source, name)
            self._defined.update(defined)

    def render(self, name: str, root: Mapping[str, Any]) -> str:
        """The text of a file with `root` as its dot. Raises Invalid with the file's name."""
        try:
            return _Run(self._defined, root).nodes(self._files[name], root)
        except Failed:
            raise
        except Invalid as exc:
            raise Invalid(f"{name}: {exc}") from exc

    def names(self) -> list[str]:
        """The names of the template files, sorted."""
        return sorted(self._files)


class _Run:
    def __init__(self, defined: Mapping[str, tuple[Node, ...]], root: Any, depth: int = 0) -> None:
        self._defined, self._root, self._depth = defined, root, depth
        self._scopes: list[dict[str, Any]] = [{"$": root}]

    def nodes(self, nodes: Sequence[Node], dot: Any) -> str:
        return "".join(self._node(node, dot) for node in nodes)

    def _node(self, node: Node, dot: Any) -> str:
        match node:
            case Text():
                return node.text
            case Show():
                return text(self._value(node.value, dot))
            case Assign():
                self._assign(node, self._value(node.value, dot))
                return ""
            case Block():
                return self._block(node, dot)

    def _assign(self, node: Assign, value: Any) -> None:
        if node.declares:
            self._scopes[-1][node.name] = value
            return
        scope = next((scope for scope in reversed(self._scopes) if node.name in scope), None)
        if scope is None:
            raise Invalid(f"{node.name} is not declared")
        scope[node.name] = value

    def _block(self, node: Block, dot: Any) -> str:
        value = self._value(node.value, dot)
        if not is_true(value):
            return self._scoped(node.otherwise, dot, {})
        if node.kind == "range":
            return "".join(
                self._scoped(node.body, item, dict(zip(node.variables, pair[2 - len(node.variables) :], strict=True)))
                for item, pair in _items(value)
            )
        variables = {name: value for name in node.variables}
        return self._scoped(node.body, value if node.kind == "with" else dot, variables)

    def _scoped(self, nodes: Sequence[Node], dot: Any, variables: dict[str, Any]) -> str:
        self._scopes.append(variables)
        try:
            return self.nodes(nodes, dot)
        finally:
            self._scopes.pop()

    def _value(self, expression: Expression, dot: Any) -> Any:
        match expression:
            case Literal():
                return expression.value
            case FieldNode():
                of = expression.of
                value = (dot if of == "" else self._variable(of)) if isinstance(of, str) else self._value(of, dot)
                for name in expression.names:
                    value = _field(value, name)
                return value
            case CallNode():
                return self._call(expression, dot)

    def _variable(self, name: str) -> Any:
        for scope in reversed(self._scopes):
            if name in scope:
                return scope[name]
        raise Invalid(f"{name} is not declared")

    def _call(self, call: CallNode, dot: Any) -> Any:
        if call.function in ("and", "or"):  # they stop at the first that decides
            value: Any = None
            for argument in call.arguments:
                value = self._value(argument, dot)
                if is_true(value) == (call.function == "or"):
                    break
            return value
        values = [self._value(argument, dot) for argument in call.arguments]
        if call.function == "include":
            return self._include(*values)
        function: Callable[..., Any] | None = FUNCTIONS.get(call.function)
        if call.function.startswith("."):
            function = _field(values.pop(0), call.function[1:])
        if function is None or not callable(function):
            raise Invalid(f"{call.function} is not a function that this renderer has")
        try:
            return function(*values)
        except (TypeError, ValueError, AttributeError, LookupError) as exc:
            raise Invalid(f"{call.function}: {exc}") from exc

    def _include(self, name: str, dot: Any) -> str:
        if name not in self._defined:
            raise Invalid(f"no template {name!r}")
        if self._depth >= _MAX_INCLUDES:
            raise Invalid(f"{name!r} includes itself")
        return _Run(self._defined, dot, self._depth + 1).nodes(self._defined[name], dot)


def _field(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return value.get(name)
    raise Invalid(f"{name!r} of {'nil' if value is None else type(value).__name__}")


def _items(value: Any) -> Iterable[tuple[Any, tuple[Any, Any]]]:
    """The dot of each turn, and what `$key, $value` are."""
    if isinstance(value, Mapping):
        return [(value[key], (key, value[key])) for key in sorted(value)]
    if isinstance(value, list):
        return [(item, (n, item)) for n, item in enumerate(value)]
    raise Invalid(f"range over a {type(value).__name__}")
