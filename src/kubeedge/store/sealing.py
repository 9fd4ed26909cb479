"""Values that are encrypted in the store's file ("sealed"): the keys, which rows it concerns, and what stands in such a row.

    version (1 byte: 1, or 2 for a key that ends with the process) | key id (8) | nonce (24, random) | ciphertext and tag (XAES-256-GCM)

What comes before the nonce, the row's id (its revision) and its key are the associated data: a value cannot be put under another key, nor
an older one in the place of a newer. In a store whose `meta` says `sealing`, each value of its resources is sealed, by the one key that it
names (reseal.py sees to that before the store is open); in one that does not say so none is. So no value has to be guessed at.

Lives elsewhere: where keys come from (sealing_keys.py), a store that changes from one key to another (reseal.py).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from functools import cached_property
from typing import Protocol

from kubeedge.api import keys, pod_certificates, service_accounts
from kubeedge.errors import Unavailable
from kubeedge.kit.dataclasses import dataclass, field

KEY_SIZE = 32  # bytes
_LASTING, _EPHEMERAL = 1, 2
_ID, _NONCE, _TAG = 8, 24, 16
_HEADER = 1 + _ID
OVERHEAD = _HEADER + _NONCE + _TAG  # bytes that a sealed value is longer
#: writes at the edge carry what they change, and `secrets` may be what that is; tokens open the API as some of them do, and keys are keys
_ALONG = {"secrets": ("writes", service_accounts.RESOURCE, pod_certificates.RESOURCE)}
_WRITES = f"{keys.REPORTED}writes/"


class NotAuthentic(ValueError):
    """A sealed value was changed, moved to another row, or belongs to another key than it says."""


@dataclass(frozen=True)
class Key:
    """32 random bytes. `repr` and errors show its id alone, a digest of it."""

    secret: bytes = field(repr=False)
    ephemeral: bool = False  # made by this process, and gone with it

    @cached_property
    def id(self) -> bytes:
        """What names it in a row."""
        return hashlib.sha256(b"kubeedge key id\0" + self.secret).digest()[:_ID]


@dataclass(frozen=True)
class Sealing:
    """What `meta` says of a store: these resources are sealed with that key."""

    key: str  # its id in hexadecimal
    resources: frozenset[str]

    def text(self) -> str:
        """The JSON that the table `meta` has; `parse` is the inverse."""
        return json.dumps({"key": self.key, "resources": sorted(self.resources)})

    @classmethod
    def parse(cls, text: str) -> Sealing:
        """Reads what text() wrote. Raises ValueError for anything else."""
        found = json.loads(text)
        if not isinstance(found, dict) or not isinstance(found.get("key"), str):
            raise ValueError("no sealing")
        resources = found.get("resources")
        if not isinstance(resources, list) or not all(isinstance(name, str) for name in resources):
            raise ValueError("no resources")
        return cls(found["key"], frozenset(resources))


@dataclass(frozen=True)
class Keyring:
    """The configuration, with the keys that were found: the first one seals, all open. Without `enabled` they only open."""

    enabled: bool = False
    keys: tuple[Key, ...] = ()
    resources: frozenset[str] = frozenset()
    problem: str = ""  # why there is no key, in words
    required: bool = False  # a store that cannot be read whole is not opened: who has it is the only one who does

    @cached_property
    def fallback(self) -> Key:
        """For what is written while the real key is not there: no other process can read it, and the cloud has it."""
        return Key(os.urandom(KEY_SIZE), ephemeral=True)

    def find(self, id: bytes) -> Key | None:
        """The key with that id."""
        return next((key for key in self.keys if key.id == id), None)


class Values(Protocol):
    """How values get into rows and out of them."""

    def seal(self, row: int, key: str, value: bytes) -> bytes:
        """What to store for a value of `key` in the row with that id."""
        ...

    def open(self, row: int, key: str, stored: bytes) -> bytes:
        """The value of a row as it was before seal(). Raises NotAuthentic."""
        ...

    def check(self, key: str) -> None:
        """Raises Unavailable when nothing may be written there now."""
        ...


class Plain:
    """Values are stored as they are: encryption is off."""

    def seal(self, row: int, key: str, value: bytes) -> bytes:
        """The value itself: nothing is encrypted."""
        return value

    def open(self, row: int, key: str, stored: bytes) -> bytes:
        """The value itself: nothing is encrypted."""
        return stored

    def check(self, key: str) -> None:
        """Does nothing: without encryption every key may be written."""


class Sealed:
    """Values, those of some resources sealed. For any thread."""

    def __init__(self, key: Key, resources: Iterable[str]) -> None:
        from kubeedge._fastpath import aead  # here: who seals nothing does not carry it

        self._aead = aead
        self._key = key
        names = set(resources)
        self._covers = keys.of_resources(names.union(*(_ALONG[name] for name in names & _ALONG.keys()))).match
        self._header = bytes((_EPHEMERAL if key.ephemeral else _LASTING,)) + key.id

    def covers(self, key: str) -> bool:
        """Whether the value under this key is sealed."""
        return self._covers(key) is not None

    def seal(self, row: int, key: str, value: bytes) -> bytes:
        """The sealed value; the value itself when its resource is not one of ours."""
        if self._covers(key) is None:
            return value
        nonce = os.urandom(_NONCE)
        ad = _associated(self._header, row, key)
        return b"".join((self._header, nonce, self._aead.encrypt(self._key.secret, nonce, value, ad)))

    def open(self, row: int, key: str, stored: bytes) -> bytes:
        """The value that seal() was given for this row and key. Raises NotAuthentic for any other bytes, row or key."""
        if self._covers(key) is None:
            return stored
        if stored[:_HEADER] != self._header:
            raise NotAuthentic(f"the value of {key} is not sealed with the store's key")
        nonce, ciphertext = stored[_HEADER : _HEADER + _NONCE], stored[_HEADER + _NONCE :]
        try:
            return self._aead.decrypt(self._key.secret, nonce, ciphertext, _associated(self._header, row, key))
        except ValueError:
            raise NotAuthentic(f"the value of {key} was changed, or is that of another row") from None

    def check(self, key: str) -> None:
        """Raises Unavailable: what this node reports is stored nowhere else, and it could not be read again after a restart."""
        if self._key.ephemeral and key.startswith(_WRITES) and self.covers(key):
            raise Unavailable("the key that encrypts Secrets is not there: `kubeedge secrets-key status` says why")


def key_id(stored: bytes) -> bytes:
    """The id of the key that a stored value was sealed with; b"" when it is none that could be opened by a later process."""
    if len(stored) < OVERHEAD or stored[0] != _LASTING:
        return b""
    return stored[1:_HEADER]


def _associated(header: bytes, row: int, key: str) -> bytes:
    return header + row.to_bytes(8, "big") + key.encode()
