"""What is recorded of a kubeconfig, and whether it opens the API. Pure.

A certificate that names a kubeconfig is good while there is a record of it that is not revoked. One that names none was issued by an earlier
version, which kept no records: all of a tenant's are good together, until they are revoked together, under the name EARLIER.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

EARLIER = "earlier"
MAX_KUBECONFIGS = 1000  # of one tenant
DEFAULT_TTL = 365 * 24 * 3600.0  # seconds
MAX_TTL = 10 * DEFAULT_TTL


@dataclass(frozen=True, slots=True)
class Kubeconfig:
    """The record of an issued kubeconfig: neither its key nor its certificate."""

    id: str
    user: str
    created: float  # seconds since 1970, as all times here
    expires: float  # 0.0: not known
    revoked: float = 0.0
    file: str = ""  # the host on which a cloud process keeps it for its administrator

    def state(self, now: float) -> Literal["revoked", "expired", "valid"]:
        """Revocation is named first; a kubeconfig without a known end does not expire."""
        if self.revoked:
            return "revoked"
        return "expired" if self.expires and now >= self.expires else "valid"

    def encode(self) -> bytes:
        """Compact JSON, the value of /kubeconfigs/T/ID."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()


def decode(value: bytes) -> Kubeconfig:
    """The kubeconfig that Kubeconfig.encode() wrote. Raises ValueError or TypeError for other values."""
    return Kubeconfig(**json.loads(value))


def opens(shown: str, record: Kubeconfig | None, now: float) -> bool:
    """Whether a certificate that names the kubeconfig `shown` opens the API, by its record, which for "" is that of EARLIER."""
    if record is None:
        return not shown
    return record.state(now) == "valid"


def forgettable(records: Iterable[Kubeconfig], now: float, most: int) -> list[Kubeconfig]:
    """Those whose records may go so that `most` are left, if there are as many: without a record nothing opens. The oldest first."""
    found = list(records)
    ended = sorted((r for r in found if r.state(now) != "valid" and r.id != EARLIER), key=lambda r: (r.created, r.id))
    return ended[: max(0, len(found) - most)]


def valid(records: Iterable[Kubeconfig], now: float) -> Sequence[str]:
    """What certificates may name ("": nothing, those of an earlier version), for a node, which decides alone. Sorted."""
    found = {record.id: record for record in records}
    named = {id for id, record in found.items() if id != EARLIER and record.state(now) == "valid"}
    return sorted(named | ({""} if opens("", found.get(EARLIER), now) else set()))
