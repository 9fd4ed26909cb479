"""One board that asks with a join key, by its serial number: who has asked with it, and what an administrator has said. Pure.

A serial number is printed on the board, so it proves nothing: whoever has a card can ask with any. So the first key that asks is the board's until
another one asks with the same number. From then on neither gets a token before an administrator has said which key is the board's, and from then on no
other key can stand in its way. What was approved for a network is asked for from there, or not at all.

Lives elsewhere: keeping the records (boards.py), HTTP (service.py).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from ipaddress import ip_address, ip_network
from typing import Literal

from kubeedge.errors import Conflict, Invalid, NotFound, Refused, with_next

BoardState = Literal["waiting", "expected", "approved", "contested"]
SHOWN_KEY = 16  # digits of a key's fingerprint that people compare
_FEWEST = 8  # digits by which one is chosen
#: fields that a cloud process of an older version does not know
_NEWER = ("rival", "rival_address", "rival_asked", "chosen", "network")


@dataclass(frozen=True, slots=True)
class BoardRecord:
    """One board, by its serial number."""

    serial: str
    node: str = ""  # its name as a node; "": not approved
    key: str = ""  # fingerprint of the key that asked first, or that was chosen; "": it has not asked yet
    address: str = ""  # from where
    asked: float = 0.0  # seconds since 1970, as all times here
    approved: float = 0.0
    token: str = ""  # ID of the last token that it got
    joined: str = ""  # ID of the one that it has joined with, once it has got another since
    rival: str = ""  # fingerprint of another key that has asked with the same serial number
    rival_address: str = ""
    rival_asked: float = 0.0
    chosen: bool = False  # an administrator has said that `key` is the board's
    network: str = ""  # from where alone it may ask, such as "192.0.2.0/24"; "": from anywhere

    @property
    def state(self) -> BoardState:
        """ "expected": approved, and has not asked yet; "contested": two machines ask."""
        if self.rival:
            return "contested"
        if not self.node:
            return "waiting"
        return "approved" if self.key else "expected"

    def encode(self) -> bytes:
        """As it is stored."""
        fields = {name: value for name, value in asdict(self).items() if value or name not in _NEWER}
        return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def decode(value: bytes) -> BoardRecord:
    """A record as it was stored, by an older cloud process too."""
    return BoardRecord(**json.loads(value))


def asked(record: BoardRecord, key: str, address: str, now: float) -> BoardRecord:
    """What is known once a machine with that key has asked from there; the same record where that is nothing new. Raises Refused."""
    if record.network and not _is_within(address, record.network):
        raise Refused(f"board {record.serial} was approved for {record.network}, and this request comes from {address}")
    if not record.key:
        return replace(record, key=key, address=address, asked=now)
    if key in (record.key, record.rival):
        return record
    if record.chosen or record.rival:
        raise with_next(
            Refused(f"another machine has asked with the serial number {record.serial}, and another key"),
            f"if that was a card of this board that was written anew: `kubeedge board forget {record.serial}` in the cloud",
        )
    return replace(record, rival=key, rival_address=address, rival_asked=now)


def check_uncontested(record: BoardRecord, key: str) -> None:
    """Raises Refused where another machine asks with the same serial number; `key`: of the one that is told."""
    if record.rival:
        raise with_next(
            Refused(
                f"another machine asks with the serial number {record.serial}, too, and neither joins before an administrator of the cloud has "
                f"said which one it is; the key of this one is {key[:SHOWN_KEY]}"
            ),
            f"`kubeedge board list` in the cloud shows both, and `kubeedge board approve {record.serial} --key KEY` says which",
        )


def approved(record: BoardRecord, node: str, key: str, network: str, now: float) -> BoardRecord:
    """What is known once an administrator has approved it as node `node`, of which `key` begins the fingerprint of its key ("": whoever asks first), from
    a network ("": any). Raises Conflict where two ask, or it has asked from elsewhere; NotFound for a key that has not asked; Invalid."""
    if key:
        record = _choose(record, key)
    elif record.rival:
        raise with_next(
            Conflict(f"two machines ask with the serial number {record.serial}"),
            f"kubeedge-status.txt of each has its key: `kubeedge board approve {record.serial} --key KEY` with that of the board",
        )
    if network:
        network = _network(network)
        if record.address and not _is_within(record.address, network):
            raise with_next(
                Conflict(f"board {record.serial} has asked from {record.address}, which is not in {network}"),
                f"if that was another machine: `kubeedge board forget {record.serial}`, and approve it again",
            )
        record = replace(record, network=network)
    return record if record.node else replace(record, node=node, approved=now)


def _choose(record: BoardRecord, key: str) -> BoardRecord:
    if len(key) < _FEWEST:
        raise Invalid(f"at least {_FEWEST} digits of the key are expected", path="key")
    first, second = (bool(known) and known.startswith(key.lower()) for known in (record.key, record.rival))
    if first and second:
        raise Invalid("both keys begin with these digits: more of them are expected", path="key")
    if not (first or second):
        raise NotFound(f"no machine has asked with the serial number {record.serial} and a key that begins with {key}")
    if second:
        record = replace(record, key=record.rival, address=record.rival_address, asked=record.rival_asked)
    return replace(record, rival="", rival_address="", rival_asked=0.0, chosen=True)


def _network(text: str) -> str:
    try:
        return str(ip_network(text, strict=False))
    except ValueError as exc:
        raise Invalid("an address with a prefix length is expected, such as 192.0.2.0/24", path="network") from exc


def _is_within(address: str, network: str) -> bool:
    try:
        found = ip_address(address)
    except ValueError:
        return False
    return (getattr(found, "ipv4_mapped", None) or found) in ip_network(network)
