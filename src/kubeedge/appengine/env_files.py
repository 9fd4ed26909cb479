"""Variables in files of a volume (fileKeyRef), in the form that Kubernetes defines. Pure.

    NAME='value'     # a comment

The value stands in single quotes, may go over several lines, and is taken as it is. Blank lines and those that begin with # count for nothing.
A blank before "=" is a mistake; one behind it is an empty value, which is as good as none.

Lives elsewhere: which files are read, and how (env_file_reader.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kubeedge.errors import Invalid


def value_of(ref: Mapping[str, Any], files: Mapping[tuple[str, str], str | None]) -> str:
    """Of a fileKeyRef; "" for a file or key that is not there. Raises Invalid for a file that is not of that form."""
    return find(files.get((ref["volumeName"], ref["path"])) or "", ref["key"])


def find(text: str, key: str) -> str:
    """As the kubelet, it looks at nothing behind the key."""
    return next((value for name, value in _entries(text) if name == key), "")


def _entries(text: str) -> Iterator[tuple[str, str]]:
    lines = enumerate(text.split("\n"), 1)
    for number, line in lines:
        line = line.removesuffix("\r").lstrip(" \t")
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not name or name != name.rstrip(" \t"):
            raise Invalid(f"line {number} is not NAME='value'", path="fileKeyRef")
        if value[:1] in (" ", "\t", ""):
            if value[:1]:
                yield name, ""
                continue
            raise Invalid(f"line {number}: the value is not in single quotes", path="fileKeyRef")
        if not value.startswith("'"):
            raise Invalid(f"line {number}: the value is not in single quotes", path="fileKeyRef")
        pieces, rest = [], value[1:]
        while "'" not in rest:
            pieces.append(rest)
            _, following = next(lines, (0, None))
            if following is None:
                raise Invalid(f"the quote of line {number} has no end", path="fileKeyRef")
            rest = following.removesuffix("\r")
        last, _, behind = rest.partition("'")
        if behind.lstrip(" \t")[:1] not in ("", "#"):
            raise Invalid(f"line {number}: there is more behind the value", path="fileKeyRef")
        yield name, "\n".join([*pieces, last])
