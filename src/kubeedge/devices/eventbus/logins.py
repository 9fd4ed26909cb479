"""Logins at the node's broker: a file of users, read anew when it has changed, and passwords that are tried one at a time.

A password that was right once is known by a keyed digest as long as the agent runs and the file says the same, so that mappers which all come back at
once do not wait for each other.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path

import yaml

from kubeedge.devices.core import Twins
from kubeedge.devices.eventbus import passwords
from kubeedge.devices.eventbus.users import ROOT, MqttUser, UserRights, users
from kubeedge.errors import Invalid
from kubeedge.kit.client_network import client_network
from kubeedge.kit.turns import Turns
from kubeedge.mqtt.admission import MqttPeer
from kubeedge.mqtt.codec import BAD_USER, NOT_AUTHORIZED, Connect, MqttError
from kubeedge.mqtt.core import ClientRights

log = logging.getLogger("kubeedge.devices")

_MAX_FILE = 256 * 1024  # bytes
_LOOK = 10.0  # seconds between two looks at the file
_KNOWN = 256  # passwords


_NOBODY = MqttUser(name="nobody", password=passwords.parsed(f"scrypt:4096:8:1:{'A' * 22}==:{'A' * 43}="))


class MqttLogins:
    """`twins`: the devices that rights are about. While the file cannot be read only root's programs of this machine are let in."""

    def __init__(self, path: Path, twins: Callable[[], Twins]) -> None:
        self._path, self._twins = path, twins
        self._users: Mapping[str | int, MqttUser] = {0: ROOT}
        self._seen: tuple[int, int, int] | None = None  # of the file
        self._turns = Turns()
        self._key = os.urandom(32)
        self._right: dict[bytes, None] = {}  # keyed digests of user, hash and password
        self._why = ""  # the file cannot be read
        self.refused = 0  # since the start

    async def admit(self, packet: Connect, peer: MqttPeer) -> ClientRights:
        """The rights of who has logged in. Raises MqttError for all others."""
        await self.look()
        if peer.names and packet.password is None:
            return UserRights(self._certified(packet.user, peer), self._twins)
        if packet.user is None:
            user = None if peer.is_remote or peer.uid is None else self._users.get(peer.uid)
            if user is None:
                raise self._no(peer, "it does not say who it is", NOT_AUTHORIZED)
            return UserRights(user, self._twins)
        user = self._users.get(packet.user, _NOBODY)
        if user.password is None:  # it comes with a certificate only
            user = _NOBODY  # takes as long
        whose = client_network(peer.address) if peer.is_remote else peer.uid
        is_right = await self._matches(user, packet.password or b"", whose)
        if not is_right or self._users.get(packet.user) != user:  # the file may have changed meanwhile
            raise self._no(peer, "user or password is wrong", BAD_USER)
        return UserRights(user, self._twins)

    def _certified(self, name: str | None, peer: MqttPeer) -> MqttUser:
        """Whose certificate it is; `name` is what the client calls itself, if it does. Raises MqttError."""
        names = dict.fromkeys(one for one in peer.names if name in (None, one))
        found = [user for one in names if (user := self._users.get(one)) is not None and user.certificate]
        if len(found) == 1:
            return found[0]
        why = "has no user's name" if not found else "has names of several users: CONNECT has to say which one it is"
        raise self._no(peer, f"its certificate {why}", NOT_AUTHORIZED)

    def _no(self, peer: MqttPeer, why: str, code: int) -> MqttError:
        self.refused += 1
        return MqttError(f"from {peer.address}: {why}", code)

    async def _matches(self, user: MqttUser, password: bytes, whose: Hashable) -> bool:
        assert user.password is not None
        text = b"\0".join((user.name.encode(), user.password.key, password))
        digest = hashlib.blake2b(text, key=self._key, digest_size=16).digest()
        if digest in self._right:
            return True
        async with self._turns.of(whose):  # each takes memory, and who guesses waits for himself
            trying = asyncio.ensure_future(asyncio.to_thread(user.password.matches, password))
            try:
                if not await asyncio.shield(trying):
                    return False
            except asyncio.CancelledError:
                await asyncio.wait([trying])  # a thread cannot be stopped: the next one does not begin beside it
                raise
        if len(self._right) >= _KNOWN:
            self._right.clear()
        self._right[digest] = None
        return True

    def still(self, rights: ClientRights) -> bool:
        """These are the rights that the user would get now."""
        user = rights.user if isinstance(rights, UserRights) else None
        return user is not None and self._users.get(user.name or user.uid) == user

    async def look(self) -> None:
        """Read the file if it has changed."""
        if (found := await asyncio.to_thread(self._read)) is not None:
            self._users = found

    def _read(self) -> Mapping[str | int, MqttUser] | None:
        """None: it has not changed."""
        try:
            with self._path.open("rb") as file:
                stat = os.fstat(file.fileno())
                seen = stat.st_mtime_ns, stat.st_ino, stat.st_size
                if seen == self._seen:
                    return None
                data = file.read(_MAX_FILE + 1)
            if len(data) > _MAX_FILE:
                raise Invalid(f"it has more than {_MAX_FILE} bytes")
            found = users(yaml.safe_load(data) or [])
        except (OSError, Invalid, yaml.YAMLError, RecursionError, ValueError) as exc:
            why = (
                str(exc) if isinstance(exc, OSError | Invalid) else "it is no YAML"
            )  # whose message may quote a password
            if why != self._why:
                log.error("MQTT users of %s are not let in: %s", self._path, why)
            self._seen, self._why = None, why
            return {0: ROOT}
        self._seen, self._why = seen, ""
        return found

    async def follow(self, changed: Callable[[], None]) -> None:
        """Calls `changed` whenever there are other users than before, until it is cancelled."""
        told = self._users
        while True:
            await asyncio.sleep(_LOOK)
            await self.look()
            if told != self._users:  # a client that came may have had the file read
                told = self._users
                changed()
