"""What kinds and fields are, for `kubectl explain`: read from descriptions.txt when a document is made, and not kept.

*                   then fields that mean the same wherever they stand
Type text           of schema_table.py
  field text
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

_FILE = Path(__file__).with_name("descriptions.txt")
_ANYWHERE = "*"


class Descriptions:
    """Texts by type and field."""

    def __init__(self, texts: Mapping[tuple[str, str], str]) -> None:
        self._texts = texts

    def of_type(self, kind: str) -> str:
        """What it is; "": not described."""
        return self._texts.get((kind, ""), "")

    def of_field(self, kind: str, field: str) -> str:
        """What the type says of it, else what fields of that name are anywhere; "": there is none."""
        return self._texts.get((kind, field)) or self._texts.get((_ANYWHERE, field), "")

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """(type, field) of each text; field "" is the type itself."""
        return iter(self._texts)


def read() -> Descriptions:
    """The descriptions of all kinds by name, from the table in the package. Blocking, for some milliseconds."""
    texts: dict[tuple[str, str], str] = {}
    kind = ""
    for line in _FILE.read_text(encoding="utf-8").splitlines():
        name, _, text = line.strip().partition(" ")
        if line.startswith(" "):
            texts[kind, name] = text
        else:
            kind = name
            texts[kind, ""] = text
    return Descriptions(texts)
