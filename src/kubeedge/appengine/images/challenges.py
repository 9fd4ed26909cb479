"""What a registry's WWW-Authenticate says (RFC 9110, 11.6.1): schemes with their parameters, several of them in one field or in several. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PART = re.compile(rf'({_TOKEN})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))|({_TOKEN})')


def parse(header: str) -> Sequence[tuple[str, Mapping[str, str]]]:
    """Each scheme in lower case, with its parameters by their names in lower case. What cannot be read is passed over."""
    found: list[tuple[str, dict[str, str]]] = []
    for part in _PART.finditer(header):
        name, quoted, plain, scheme = part.groups()
        if scheme:
            found.append((scheme.lower(), {}))
        elif found:
            value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
            found[-1][1].setdefault(name.lower(), value)
    return found


def bearer(header: str) -> Mapping[str, str] | None:
    """The parameters of the first challenge for a Bearer token, which is taken before any other; None: there is none."""
    return next((fields for scheme, fields in parse(header) if scheme == "bearer"), None)
