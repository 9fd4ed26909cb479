"""What a restored cloud store lets in that the one before it did not. Pure.

A backup knows nothing of what was ended after it: a kubeconfig that was revoked, a token that was used up or revoked, a machine that was removed
from the nodes, or whose place another machine took. All of them are valid again, silently, unless the operator is told.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kubeedge.api import keys

#: when the store from before cannot be read
UNKNOWN = (
    "kubeconfigs that were revoked, tokens that were used and nodes that were removed after the backup are valid again: "
    "look at `kubeedge kubeconfig list`, `kubeedge token list` and `kubeedge node list`"
)
NEXT = "end them again: `kubeedge kubeconfig revoke ID`, `kubeedge token revoke ID`, `kubeedge node remove NAME`"


def let_in_again(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> Sequence[str]:
    """In words, sorted. `before` and `after` are the live keys of the two stores with their values; other keys do not matter."""
    return sorted(_findings(before, after))


def _findings(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> Iterator[str]:
    for key, value in after.items():
        old, new = _record(before.get(key)), _record(value)
        match keys.lets_in(key):
            case ("kubeconfigs", tenant, id) if old.get("revoked") and not new.get("revoked"):
                yield f"kubeconfig {id} of tenant {tenant}"
            case ("tokens", tenant, id) if _is_spent(old) and not _is_spent(new):
                yield f"token {id} of tenant {tenant}"
            case ("nodes", tenant, node) if key not in before:
                yield f"node {node} of tenant {tenant}, which was removed"
            case ("nodes", tenant, node) if old.get("join") != new.get("join"):
                yield f"node {node} of tenant {tenant}, as the machine that was replaced: the one that took its place is refused"


def is_of_interest(key: str) -> bool:
    """Whether let_in_again looks at it."""
    return keys.lets_in(key) is not None


def _record(value: bytes | None) -> Mapping[str, Any]:
    try:
        found = json.loads(value or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _is_spent(token: Mapping[str, Any]) -> bool:
    return bool(token.get("used") or token.get("revoked"))
