"""What a bootstrap token may do, and who may renew. Pure: records and clock readings come in.

A token is made for one tenant, and for one node name or any; it yields one certificate until it expires or is revoked. The one exception:
an answer may get lost on the way, so for a while the same machine, with the same key, may ask again.

A node's claim says which certificate stands for its name. A name that is claimed is taken; a token made with --replace moves the claim, and
what was issued before is revoked from then on, at every listener (kubeedge.pki.identity). A renewal moves it too, and the certificate before it stays valid for renewing, for this
answer may be lost as well.

Lives elsewhere: keeping the records (tokens.py), HTTP (service.py).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Literal

from kubeedge.api.names import NodeName, TenantId
from kubeedge.errors import Conflict, Refused, with_next
from kubeedge.kit.client_network import client_network
from kubeedge.kit.durations import duration

RETRY_WINDOW = 600.0  # seconds in which a lost answer may be asked for again

NEW_TOKEN = "make a new token in the cloud with `kubeedge token create`"


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A bootstrap token as it is stored; of the secret there is only a hash."""

    id: str
    tenant: TenantId
    node: str  # "": any name
    secret_hash: str
    created: float  # seconds since 1970, as all times here
    expires: float
    replace: bool = False  # may take the place of a node that exists
    used: float = 0.0
    used_by: str = ""  # the node
    used_key: str = ""  # fingerprint of the key that it was used with
    revoked: bool = False
    join_key: bool = (
        False  # it buys no certificate: boards whose serial numbers are approved get tokens by it (boards.py)
    )

    def state(self, now: float) -> Literal["revoked", "used", "expired", "valid"]:
        """Revocation is named first, then use: an expired token that was used is "used"."""
        if self.revoked:
            return "revoked"
        if self.used:
            return "used"
        return "expired" if now >= self.expires else "valid"

    def ended(self, now: float) -> bool:
        """Whether the token yields no new certificate any more."""
        return self.state(now) != "valid"


@dataclass(frozen=True, slots=True)
class Claim:
    """Which certificate stands for a node's name."""

    serial: str  # hex
    previous: str  # hex; "" when there is none that may still be renewed
    token: str  # id of the token that the node joined with
    issued: float


def check(record: TokenRecord, node: NodeName, key: str, now: float) -> None:
    """May this token make that node now, with a key of that fingerprint? Raises Refused with what is wrong."""
    if record.join_key:
        raise with_next(
            Refused("this is a join key, not a token"),
            "join with `--serial` of this board, or make a token for the node",
        )
    if record.node and record.node != node:
        raise with_next(
            Refused(f"this token is for node {record.node}, not for {node}"),
            f"join with `--name {record.node}`, or make a token for {node}",
        )
    match record.state(now):
        case "revoked":
            raise with_next(Refused("this token was revoked"), NEW_TOKEN)
        case "used" if not repeats(record, node, key, now):
            raise with_next(
                Refused(f"this token was used already, for node {record.used_by}; a token works once"), NEW_TOKEN
            )
        case "expired":
            raise with_next(Refused(f"this token expired {duration(now - record.expires)} ago"), NEW_TOKEN)


def check_join_key(record: TokenRecord, now: float) -> None:
    """May boards ask with it? Raises Refused with what is wrong."""
    if not record.join_key:
        raise with_next(Refused("this is a token for one node, not a join key"), "join without `--serial`")
    if (state := record.state(now)) != "valid":
        raise with_next(
            Refused(f"this join key is {state}"), "make a new one in the cloud with `kubeedge token create --join-key`"
        )


def repeats(record: TokenRecord, node: NodeName, key: str, now: float) -> bool:
    """Whether the same machine asks again because it did not get the answer."""
    return (record.used_by, record.used_key) == (node, key) and bool(key) and now - record.used < RETRY_WINDOW


def check_repetition(record: TokenRecord, claim: Claim | None) -> None:
    """Raises Refused when a used token made a node that was removed or replaced since: asking again must not bring it back."""
    if record.used and (claim is None or claim.token != record.id):
        raise with_next(
            Refused(f"this token was used already, and node {record.used_by} was removed or replaced since"), NEW_TOKEN
        )


def check_name(record: TokenRecord, node: NodeName, claim: Claim | None) -> None:
    """Raises Conflict when the name is taken and the token may not replace its holder."""
    if claim is not None and claim.token != record.id and not record.replace:
        raise with_next(
            Conflict(f"node {node} exists in tenant {record.tenant}"),
            "choose another name, or make a token with --replace to put this machine in its place",
        )


def check_renewal(node: NodeName, serial: str, claim: Claim | None) -> None:
    """Raises Refused when the certificate with that serial number does not stand for the node (any more)."""
    if claim is None:
        raise with_next(Refused(f"node {node} is not known here any more"), "join it again with a new token")
    if not serial or serial not in (claim.serial, claim.previous):
        raise with_next(
            Refused(f"this certificate of node {node} was replaced by a later one"),
            "if this is the right machine, join it again with a token made with --replace",
        )


class FailureLimit:
    """So many failures from one source within a minute, then none is heard for the rest of it. Bounded memory: the oldest sources are forgotten."""

    def __init__(self, failures: int = 10, *, window: float = 60.0, sources: int = 4096) -> None:
        self._failures = failures
        self._window = window
        self._max_sources = sources
        self._seen: OrderedDict[str, deque[float]] = OrderedDict()

    def failed(self, address: str, now: float) -> None:
        """Counts a failure of the client's network: an IPv4 address or an IPv6 /64."""
        source = client_network(address)
        times = self._seen.setdefault(source, deque(maxlen=self._failures))
        times.append(now)
        self._seen.move_to_end(source)
        while len(self._seen) > self._max_sources:
            self._seen.popitem(last=False)

    def wait(self, address: str, now: float) -> float:
        """Seconds until this source is heard again; 0.0: now."""
        times = self._seen.get(client_network(address))
        if times is None or len(times) < self._failures:
            return 0.0
        return max(0.0, times[0] + self._window - now)
