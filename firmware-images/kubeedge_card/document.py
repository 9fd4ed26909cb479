"""YAML that somebody has written on a card: numbers as they are written, nothing that could not be written again, and messages without what a line
has in it, which may be a token. Pure.

A Wi-Fi password is a text for whoever writes it, with quotes or without. YAML 1.1 reads 0123456712 as 21913034, for it begins with 0, and 1_000 as 1000.
Such a value is the text here; 7 and 12345678 are numbers, as they are for everybody.
"""

from __future__ import annotations

from typing import Any

import yaml

_DEEPEST = 64  # lists in lists: what is deeper may be read, and not written again
_MAX_NUMBER = 1000  # characters: likewise


class _Loader(yaml.SafeLoader):
    """Constructs what SafeLoader does, but for numbers."""

    def construct_number(self, node: yaml.ScalarNode) -> int | str:
        text = str(node.value)
        return int(text) if text.removeprefix("-").isdecimal() and str(int(text)) == text else text


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_number)


def load(name: str, text: str) -> object:
    """What the file `name` says. Raises ValueError with the line, and what is wrong there."""
    try:
        _refuse_endless(name, text)
        return plain(text)
    except (yaml.YAMLError, RecursionError) as exc:
        # never what a line of it has in it: that may be the token
        mark = getattr(exc, "problem_mark", None)
        where = f"line {mark.line + 1}: {getattr(exc, 'problem', '')}" if mark else str(exc)
        raise ValueError(f"{name}: {where}") from exc


def plain(text: str) -> Any:
    """Of a text that has been loaded before. Raises YAMLError."""
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _refuse_endless(name: str, text: str) -> None:
    """Raises ValueError for YAML that cannot be compared, or written out again. Raises YAMLError."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent):
            # a few lines of them can mean more than any machine can compare or write out
            raise ValueError(f"{name}: names that stand for other values (*name) are not used here")
        line = event.start_mark.line + 1 if event.start_mark else 0
        if depth > _DEEPEST:
            raise ValueError(f"{name}: line {line}: more than {_DEEPEST} values, each in another one")
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > _MAX_NUMBER and _may_be_number(event):
            raise ValueError(f"{name}: line {line}: a number of more than {_MAX_NUMBER} digits")


def _may_be_number(scalar: yaml.ScalarEvent) -> bool:
    return str(scalar.tag or "").endswith(":int") or (scalar.style is None and scalar.value[0] in "+-0123456789")
