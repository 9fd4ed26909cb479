"""Go's text/template as far as the chart uses it: text into a tree. Pure.

Actions, comments, trimming, pipelines, variables, if, with, range, define, include. Anything else is refused, so that the chart cannot
come to depend on what only Helm knows (a test renders it by both).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from kubeedge.errors import Invalid


@dataclass(frozen=True, slots=True)
class Literal:
    """A string, a number, true, false or nil."""

    value: object


@dataclass(frozen=True, slots=True)
class FieldNode:
    """`.a.b`, `$.a`, `$x.a`, `(pipeline).a`: the fields of what `of` gives; a name that is "" is the dot."""

    of: Expression | str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CallNode:
    """A call of a function, with its arguments."""

    function: str
    arguments: tuple[Expression, ...]


Expression: TypeAlias = Literal | FieldNode | CallNode


@dataclass(frozen=True, slots=True)
class Text:
    """The text outside of actions."""

    text: str


@dataclass(frozen=True, slots=True)
class Show:
    """An action that writes a value."""

    value: Expression


@dataclass(frozen=True, slots=True)
class Assign:
    """`$name := value`, or `=` where the variable exists."""

    name: str
    value: Expression
    declares: bool


@dataclass(frozen=True, slots=True)
class Block:
    """`if`, `with` or `range`; `variables` are those that `range $key, $value :=` or `with $x :=` declares."""

    kind: str
    value: Expression
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]
    variables: tuple[str, ...] = ()


Node: TypeAlias = Text | Show | Assign | Block

_ACTION = re.compile(r"(\s*)\{\{(-\s)?\s*(/\*.*?\*/|.*?)\s*?(\s-)?\}\}", re.DOTALL)
_TOKEN = re.compile(
    r'\s*(?:(?P<string>"(?:[^"\\]|\\.)*"|`[^`]*`)|(?P<number>-?\d+)|(?P<field>(?:\$\w*)?(?:\.\w+)+|\$\w*|\.)'
    r"|(?P<word>\w+)|(?P<sign>:=|=|\||\(|\)|,))"
)
_WORDS = {"true": True, "false": False, "nil": None}
_MAX_DEPTH = 50  # of blocks and parentheses


def parse(source: str, name: str) -> tuple[tuple[Node, ...], dict[str, tuple[Node, ...]]]:
    """The tree of a file, and those that it defines by their names. Raises Invalid with file and line."""
    parser = _Parser(source, name)
    body, end = parser.nodes(0)
    if end:
        raise parser.error(f"{{{{ {end} }}}} without a beginning")
    return body, parser.defined


class _Parser:
    def __init__(self, source: str, name: str) -> None:
        self._name, self._source = name, source
        self._pieces = list(_pieces(source))
        self._at = 0
        self._line = 1
        self.defined: dict[str, tuple[Node, ...]] = {}

    def error(self, what: str) -> Invalid:
        return Invalid(f"{self._name}:{self._line}: {what}")

    def nodes(self, depth: int) -> tuple[tuple[Node, ...], str]:
        """Until `end` or `else`, which is returned with its condition; "" at the end of the file."""
        if depth > _MAX_DEPTH:
            raise self.error("too deeply nested")
        found: list[Node] = []
        while self._at < len(self._pieces):
            is_action, text, self._line = self._pieces[self._at]
            self._at += 1
            if not is_action:
                found.append(Text(text))
                continue
            word = text.partition(" ")[0]
            if word in ("end", "else"):
                return tuple(found), text
            if word == "define":
                self._define(text, depth)
            elif word in ("if", "with", "range"):
                found.append(self._block(word, text[len(word) :], depth))
            elif not text.startswith("/*"):
                found.append(self._action(text))
        return tuple(found), ""

    def _define(self, text: str, depth: int) -> None:
        body, end = self.nodes(depth + 1)
        if end != "end":
            raise self.error("define without end")
        self.defined[text.partition(" ")[2].strip().strip('"')] = body

    def _block(self, kind: str, text: str, depth: int) -> Block:
        tokens = _Tokens(text, self)
        variables = tokens.declared()
        value = tokens.pipeline(depth)
        tokens.finish()
        body, end = self.nodes(depth + 1)
        otherwise: tuple[Node, ...] = ()
        if end.startswith("else if "):
            otherwise = (self._block("if", end[len("else if") :], depth + 1),)
        elif end == "else":
            otherwise, end = self.nodes(depth + 1)
            if end != "end":
                raise self.error(f"{kind} without end")
        elif end != "end":
            raise self.error(f"{kind} without end")
        return Block(kind, value, body, otherwise, variables)

    def _action(self, text: str) -> Node:
        tokens = _Tokens(text, self)
        if assigned := re.match(r"(\$\w+)\s*(:?=)\s*(?!=)", text):
            tokens = _Tokens(text[assigned.end() :], self)
            node: Node = Assign(assigned[1], tokens.pipeline(0), assigned[2] == ":=")
        else:
            node = Show(tokens.pipeline(0))
        tokens.finish()
        return node


def _pieces(source: str) -> Iterator[tuple[bool, str, int]]:
    """Whether it is an action, its text, its line."""
    at, line, trims = 0, 1, False
    for match in _ACTION.finditer(source):
        before = source[at : match.start()] + match[1]
        if trims:
            before = before.lstrip()
        line += source.count("\n", at, match.end()) - match[0].count("\n")
        yield False, before.rstrip() if match[2] else before, line
        yield True, match[3].strip(), line
        line += match[0].count("\n")
        at, trims = match.end(), bool(match[4])
    rest = source[at:]
    yield False, rest.lstrip() if trims else rest, line


class _Tokens:
    def __init__(self, text: str, parser: _Parser) -> None:
        self._parser, self._at = parser, 0
        self._tokens: list[tuple[str, str]] = []
        self._glued = set[int]()  # tokens without a space in front
        end = 0
        while text[end:].strip():
            match = _TOKEN.match(text, end)
            if match is None:
                raise parser.error(f"cannot read {text[end:].strip()!r:.60}")
            assert match.lastgroup is not None
            if not match[0][:1].isspace():
                self._glued.add(len(self._tokens))
            self._tokens.append((match.lastgroup, match[match.lastgroup]))
            end = match.end()

    def declared(self) -> tuple[str, ...]:
        """`$a, $b :=` at the beginning."""
        signs = [text for _, text in self._tokens]
        if ":=" not in signs:
            return ()
        self._at = signs.index(":=") + 1
        return tuple(text for text in signs[: self._at - 1] if text != ",")

    def finish(self) -> None:
        if self._at != len(self._tokens):
            raise self._parser.error(f"{self._tokens[self._at][1]!r} is too much")

    def pipeline(self, depth: int) -> Expression:
        value = self._command(depth, None)
        while self._peek() == ("sign", "|"):
            self._at += 1
            value = self._command(depth, value)
        return value

    def _command(self, depth: int, last: Expression | None) -> Expression:
        kind, text = self._peek()
        if kind == "word" and text not in _WORDS:
            self._at += 1
            arguments = list(self._operands(depth))
            return CallNode(text, (*arguments, *([last] if last is not None else [])))
        operands = list(self._operands(depth))
        if len(operands) == 1 and last is None:
            return operands[0]
        if last is None and len(operands) > 1 and isinstance(operands[0], FieldNode) and operands[0].names:
            return CallNode(
                f".{operands[0].names[-1]}", (FieldNode(operands[0].of, operands[0].names[:-1]), *operands[1:])
            )
        raise self._parser.error("a value where a function is needed")

    def _operands(self, depth: int) -> Iterator[Expression]:
        if depth > _MAX_DEPTH:
            raise self._parser.error("too deeply nested")
        while True:
            kind, text = self._peek()
            if kind == "string":
                yield Literal(text[1:-1] if text[0] == "`" else _unquoted(text))
            elif kind == "number":
                yield Literal(int(text))
            elif kind == "word":
                yield Literal(_WORDS[text]) if text in _WORDS else CallNode(text, ())
            elif kind == "field":
                variable, *names = text.split(".")
                yield FieldNode(variable, tuple(name for name in names if name))
            elif text == "(":
                self._at += 1
                value = self.pipeline(depth + 1)
                if self._peek() != ("sign", ")"):
                    raise self._parser.error("a parenthesis is open")
                self._at += 1
                kind, text = self._peek()
                if kind == "field" and text.startswith(".") and text != "." and self._at in self._glued:
                    value = FieldNode(value, tuple(text[1:].split(".")))
                    self._at += 1
                yield value
                continue
            else:
                return
            self._at += 1

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("", "")


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", lambda match: {"n": "\n", "t": "\t"}.get(match[1], match[1]), text[1:-1])
