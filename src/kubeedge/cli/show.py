"""How answers are printed: tables for users, JSON for programs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any


def as_json(value: Any) -> str:
    """JSON for programs: indented, keys as they came."""
    return json.dumps(value, indent=2)


def plain(value: object) -> str:
    """A text without what a terminal would obey: much of what is shown was said by devices, nodes or tenants."""
    text = str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Left-aligned columns as wide as their widest cell."""
    cells = [[plain(h) for h in header], *([plain(c) for c in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    return "\n".join("   ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells)


def tree(value: Mapping[str, Any], indent: str = "") -> str:
    """A mapping of mappings, lists and words; a list of mappings becomes a table. Names say the unit: `rtt` is in
    seconds and shown in milliseconds, `...bytes...` is shown as `amount`."""
    lines: list[str] = []
    for key, item in value.items():
        name = plain(key)
        if isinstance(item, Mapping):
            lines += [f"{indent}{name}:", tree(item, indent + "  ")] if item else [f"{indent}{name}: -"]
        elif isinstance(item, list) and item and all(isinstance(entry, Mapping) for entry in item):
            header = list(dict.fromkeys(key for entry in item for key in entry))
            rows = [[_word(h, entry.get(h)) for h in header] for entry in item]
            lines += [
                f"{indent}{name}:",
                *(f"{indent}  {line}" for line in table(list(map(_title, header)), rows).splitlines()),
            ]
        elif isinstance(item, list):
            lines.append(f"{indent}{name}: {', '.join(map(plain, item)) or '-'}")
        else:
            lines.append(f"{indent}{name}: {_word(name, item)}")
    return "\n".join(lines)


def ms(seconds: float) -> str:
    """Seconds as milliseconds in three digits."""
    return f"{seconds * 1000:.3g} ms"


def amount(count: int) -> str:
    """Bytes in three digits, powers of 1,000."""
    scaled, unit = float(count), ""
    for larger in ("kB", "MB", "GB", "TB"):
        if scaled < 1000:
            break
        scaled, unit = scaled / 1000, larger
    return f"{scaled:.3g} {unit}" if unit else str(count)


def _title(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).upper()


def _word(name: str, value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{plain(key)} {_word(str(key), item)}" for key, item in value.items()) or "-"
    if isinstance(value, list):
        return ", ".join(_word("", item) for item in value) or "-"
    if isinstance(value, float):
        if name.lower().endswith("rtt"):
            return ms(value)
        return f"{value:.6g}" if abs(value) < 1e6 else f"{value:.0f}"
    if isinstance(value, int) and not isinstance(value, bool) and "bytes" in name.lower():
        return amount(value)
    return "-" if value in (None, "") else plain(value)
