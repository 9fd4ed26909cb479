"""What a condition that did not come true compares: for the message of a wait that failed, which nobody can repeat.

    until(lambda: names(site) == ["a", "b"], what="both")   AssertionError: both: not within 90 s
                                                              names(site) is ['a']

A lambda's parts are evaluated once more, each by itself. Of a function the local names at its return are shown.
"""

from __future__ import annotations

import ast
import linecache
import sys
from collections.abc import Callable, Iterator
from types import CodeType, FrameType, FunctionType, MethodType
from typing import Any

_LENGTH = 1500  # characters of a value; of a longer one both ends are shown
_UNSAID = " object at 0x"  # of a value that says nothing of itself


def explained(condition: Callable[[], object]) -> str:
    """A line for each part of the condition, as it is now, each after a newline; "" when it cannot be looked into."""
    try:
        return "".join(f"\n  {name} {text}" for name, text in _parts(condition))
    except Exception as exc:  # it explains a failure, and is none
        return f"\n  (not explained: {type(exc).__name__}: {exc})"


def _parts(condition: Callable[[], object]) -> Iterator[tuple[str, str]]:
    function = condition.__func__ if isinstance(condition, MethodType) else condition
    if isinstance(condition, MethodType) and _UNSAID not in (owner := _shown(condition.__self__)):
        yield f"its {condition.__name__}", f"is of {owner}"
    if not isinstance(function, FunctionType):
        return
    if function.__name__ != "<lambda>":
        yield from _local_names(condition, function.__code__)
        return
    names = dict(function.__globals__)
    for name, value in zip(function.__code__.co_varnames, function.__defaults__ or (), strict=False):
        names[name] = value
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        names[name] = cell.cell_contents
    for part in _compared(_body(function.__code__)):
        yield ast.unparse(part), _evaluated(part, names)


def _body(code: CodeType) -> ast.expr:
    """Of that lambda, by the place of its last operation: there may be several in one line."""
    line, _, column, _ = list(code.co_positions())[-2]
    tree = ast.parse("".join(linecache.getlines(code.co_filename)))
    lambdas = (node for node in ast.walk(tree) if isinstance(node, ast.Lambda) and node.lineno == code.co_firstlineno)
    within = [
        node.body
        for node in lambdas
        if _begin(node.body) <= (line or 0, column or 0) <= (node.body.end_lineno or 0, node.body.end_col_offset or 0)
    ]
    return max(within, key=_begin)


def _begin(node: ast.expr) -> tuple[int, int]:
    return node.lineno, node.col_offset


def _compared(node: ast.expr) -> Iterator[ast.expr]:
    """The parts whose values tell why the whole is false, without those that are plain in the source."""
    match node:
        case ast.BoolOp(values=values):
            for value in values:
                yield from _compared(value)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield from _compared(operand)
        case ast.Compare(left=left, comparators=others):
            yield from (_counted(part) for part in (left, *others) if not _is_plain(part))
        case ast.Call(func=ast.Name(id="bool" | "any" | "all" | "len"), args=[ast.GeneratorExp() as inner]):
            yield inner.generators[0].iter
        case ast.Call(func=ast.Name(id="bool" | "any" | "all" | "len"), args=[inner]):
            yield from _compared(inner)
        case _:
            yield node


def _counted(part: ast.expr) -> ast.expr:
    """What is counted tells more than its number."""
    match part:
        case ast.Call(func=ast.Name(id="len"), args=[inner]):
            return inner
    return part


def _is_plain(part: ast.expr) -> bool:
    try:
        ast.literal_eval(part)
    except ValueError:
        return False
    return True


def _evaluated(part: ast.expr, names: dict[str, Any]) -> str:
    try:
        return f"is {_shown(eval(compile(ast.Expression(part), '<condition>', 'eval'), names))}"
    except Exception as exc:
        return f"raises {type(exc).__name__}: {_cut(str(exc))}"


def _local_names(condition: Callable[[], object], code: CodeType) -> list[tuple[str, str]]:
    found: dict[str, Any] = {}

    def look(frame: FrameType, event: str, result: object) -> None:
        if event == "return" and frame.f_code is code:
            found.clear()
            found.update(frame.f_locals)
            found["its result"] = result

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        condition()
    finally:
        sys.setprofile(before)
    shown = ((name, _shown(value)) for name, value in found.items() if name != "self" and not callable(value))
    return [(name, f"is {text}") for name, text in shown if _UNSAID not in text]


def _shown(value: object) -> str:
    return _cut(repr(value))


def _cut(text: str) -> str:
    if len(text) <= _LENGTH:
        return text
    return f"{text[: _LENGTH // 3]} ... {text[-_LENGTH * 2 // 3 :]}"
