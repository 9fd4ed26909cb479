"""The header fields of a message of HTTP, as all versions of it have them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

Headers: TypeAlias = Sequence[tuple[str, str]]  # names, in lower case where they were received, and values; in order
HeaderList: TypeAlias = list[tuple[str, str]]  # the same (RFC 7541 section 1.3), of which the owner may change it
