"""YAML that is JSON in other clothes: no aliases (a page of them can mean gigabytes), no tags, no time stamps. No I/O.

A text is read twice: as events, which cost little and are counted, and then as values. libyaml does both where PyYAML was built with it;
the parser in Python takes a hundred times as long, and gets a hundredth of the work.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
from typing import Any

from kubeedge.api import strict_json
from kubeedge.api.json_bounds import MAX_DEPTH, TooManyValues
from kubeedge.api.status import BadRequest, TooLarge
from kubeedge.errors import Invalid

_LIMIT = 256 * 1024  # bytes
_VALUES = 5_000
_SLOW_LIMIT = 32 * 1024  # bytes, without libyaml
_SLOW_VALUES = 1_000
_NUMBER = 64  # characters; a longer one is text. YAML 1.1 has numbers to the base of 60, and Python needs the square of their length
_DIRECTIVES = 16  # in all; libyaml compares each %TAG with all before it, in one call that lets no other thread run
_DIRECTIVE = re.compile(r"(?:^|[\r\n\x85\u2028\u2029])%")
_STRING = "tag:yaml.org,2002:str"


def decode_yaml(data: bytes) -> Any:
    """A request body in YAML, one document. Raises BadRequest for what is none, TooLarge beyond the bounds."""
    if data.lstrip()[:1] in (b"{", b"["):  # most bodies that say YAML are JSON
        try:
            return strict_json.loads(data, what="the body")
        except TooManyValues as exc:
            raise TooLarge(str(exc)) from exc
        except Invalid:
            pass
    loader, limit, values = _loader()
    if len(data) > limit:
        raise TooLarge(f"a YAML body may have {limit} bytes; send JSON")
    text = _text(data)
    import yaml  # optional means not imported: most clients send JSON

    try:
        _check(text, loader, values)
        value = yaml.load(text, Loader=loader)  # a SafeLoader
        return strict_json.loads(json.dumps(value, allow_nan=False).encode(), what="the body")
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, Invalid) as exc:
        if isinstance(exc, BadRequest | TooLarge):
            raise
        raise BadRequest(f"the body is not YAML that JSON can say: {str(exc)[:200]}") from exc


def _text(data: bytes) -> str:
    """UTF-8 only, so that what is looked for here is what the parser sees. Raises BadRequest, TooLarge."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise BadRequest(f"the body is not YAML in UTF-8: {exc}") from exc
    if sum(1 for _ in itertools.islice(_DIRECTIVE.finditer(text), _DIRECTIVES + 1)) > _DIRECTIVES:
        raise TooLarge(f"a YAML body may have {_DIRECTIVES} directives (lines that begin with %)")
    return text


@functools.cache
def _loader() -> tuple[Any, int, int]:
    """The loader's class, and the most bytes and values that it may be given."""
    import yaml

    fast = getattr(yaml, "CSafeLoader", None)

    class Loader(fast or yaml.SafeLoader):  # type: ignore[misc]
        yaml_implicit_resolvers = {
            first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
            for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

        def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
            if kind is yaml.ScalarNode and len(value) > _NUMBER:
                return _STRING
            return super().resolve(kind, value, implicit)

    return (Loader, _LIMIT, _VALUES) if fast else (Loader, _SLOW_LIMIT, _SLOW_VALUES)


def _check(text: str, loader: Any, values: int) -> None:
    import yaml

    seen = depth = 0
    for event in yaml.parse(text, Loader=loader):
        if isinstance(event, yaml.AliasEvent):
            raise BadRequest("YAML aliases (*name) are not accepted: write the value out")
        if isinstance(event, yaml.NodeEvent):
            seen += 1
            if (tag := getattr(event, "tag", None)) not in (None, "!", _STRING):
                raise BadRequest(f"YAML tags ({str(tag)[:64]}) are not accepted")
        if seen > values:
            raise TooLarge(f"a YAML body may have {values} keys and values; send JSON")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise BadRequest(f"the body is nested deeper than {MAX_DEPTH} levels")
