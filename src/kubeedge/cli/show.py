"""How answers are printed: tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


def as_json(value: Any) -> str:
    return json.dumps(value, indent=2)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    cells = [[str(h) for h in header], *([str(c) for c in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    return "\n".join("   ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells)


def tree(value: Mapping[str, Any], indent: str = "") -> str:
    """A mapping of mappings, lists and words; a list of mappings becomes a table."""
    lines: list[str] = []
    for name, item in value.items():
        if isinstance(item, Mapping):
            lines += [f"{indent}{name}:", tree(item, indent + "  ")] if item else [f"{indent}{name}: -"]
        elif isinstance(item, list) and item and all(isinstance(entry, Mapping) for entry in item):
            header = list(dict.fromkeys(key for entry in item for key in entry))
            text = table([h.upper() for h in header], [[_word(entry.get(h)) for h in header] for entry in item])
            lines += [f"{indent}{name}:", *(f"{indent}  {line}" for line in text.splitlines())]
        elif isinstance(item, list):
            lines.append(f"{indent}{name}: {', '.join(map(str, item)) or '-'}")
        else:
            lines.append(f"{indent}{name}: {_word(item)}")
    return "\n".join(lines)


def _word(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}" if abs(value) < 1e6 else f"{value:.0f}"
    if isinstance(value, dict | list):
        return json.dumps(value)
    return "-" if value in (None, "") else str(value)
