"""Where a node listens for Gateways, as it says it to the cloud. Pure.

    /reported/gateways/_/node {"address": A, "addresses": [A, ...], "failed": [[ADDRESS, PORT, WHY], ...]}

`address`: the one that all Gateways share, by host names and ports, "": none; `addresses`: each for one Gateway; `failed`: ports that the node could
not open, at the former ("") or at one of the latter.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from kubeedge.api import strict_json
from kubeedge.api.json_bounds import JsonBounds
from kubeedge.errors import Invalid
from kubeedge.gateway.model import ListenPoint
from kubeedge.kit.dataclasses import dataclass, field
from kubeedge.kit.ip import address_of

MAX_ADDRESSES = 64
_MAX_FAILED = 64
_MAX_REPORT = 64 * 1024  # bytes
_BOUNDS = JsonBounds(values=1_000, depth=4)


@dataclass(frozen=True, slots=True)
class ListenReport:
    """See above. `failed`: why, by point."""

    address: str = ""
    addresses: Sequence[str] = ()
    failed: Mapping[ListenPoint, str] = field(default_factory=dict)


def encoded(report: ListenReport) -> bytes:
    """The row; equal reports have equal rows."""
    failed = sorted([*at, why[:200]] for at, why in report.failed.items())[:_MAX_FAILED]
    document = {"address": report.address, "addresses": list(report.addresses), "failed": failed}
    return json.dumps(document, separators=(",", ":")).encode()


def decoded(row: bytes) -> ListenReport:
    """What a node says, cut to what one may say. Raises Invalid for what is too large, or in another form."""
    if len(row) > _MAX_REPORT:
        raise Invalid("a report of listeners that is too large")
    found = strict_json.loads(row, what="a report of listeners", bounds=_BOUNDS)
    try:
        return ListenReport(
            str(address_of(found["address"])) if found["address"] else "",
            [str(address_of(text)) for text in found["addresses"][:MAX_ADDRESSES]],
            {ListenPoint(str(at), int(port)): str(why)[:200] for at, port, why in found["failed"][:_MAX_FAILED]},
        )
    except (TypeError, ValueError, KeyError) as exc:
        raise Invalid("a report of listeners in a form that is not understood") from exc
