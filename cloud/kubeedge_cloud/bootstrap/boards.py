"""Boards that ask for a token with a join key: one image for a thousand cards, and each board a node of its own.

    /t/T/boards/SERIAL      BoardRecord

A board says its serial number and shows a signing request, whose key it keeps until it has joined. It gets a token, for one node and once, when an
administrator has approved its serial number, before it asked (a list of boards that were bought) or since; whose the number is where two ask:
board_record.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from kubeedge.api import keys
from kubeedge.api.names import TenantId, node_name
from kubeedge.errors import Conflict, Invalid, NotFound, Unavailable
from kubeedge.store.model import Compare, CompareTarget, Delete, KeyValue, Put, Store
from kubeedge_cloud.bootstrap import board_record
from kubeedge_cloud.bootstrap.board_record import BoardRecord

TOKEN_TTL = 900.0  # seconds that a board has to use its token
MAX_BOARDS = 10_000  # of one tenant, approved
MAX_WAITING = 1_000  # of one tenant
_LOOK_EVERY = (
    5.0  # seconds between two looks for room where there was none: whoever has the join key may ask for it at any rate
)
_KEEP = 7 * 24 * 3600.0  # seconds that a board waits for approval after it has asked first
_AT_ONCE = 100  # records that are forgotten in one transaction
_SERIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{3,63}")


class BoardStore:
    """`clock`: seconds since 1970."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._full = dict[TenantId, float]()  # when there was no room

    async def ask(self, tenant: TenantId, serial: str, key: str, address: str) -> tuple[BoardRecord, bool]:
        """A board asks, with a key of that fingerprint; what is known of it, and whether that is new. Raises Refused for one that may not ask, Conflict
        where too many wait."""
        path = _path(tenant, serial)
        kv = await self._store.get(path)
        before = _decode(kv) if kv is not None else BoardRecord(serial)
        asked = board_record.asked(before, key, address, self._clock())
        if asked == before:
            return before, False
        if kv is None:
            await self._make_room(tenant)
        await self._put(path, kv, asked)
        return asked, True

    async def approve(
        self, tenant: TenantId, serial: str, node: str = "", *, key: str = "", network: str = ""
    ) -> BoardRecord:
        """Whether it has asked or not. Without a name it is card-SERIAL. `key`: how the fingerprint of its key begins; `network`: from where alone it may
        ask. Raises Invalid, NotFound for a key that has not asked, Conflict for a board with another name and where two machines ask."""
        name = node_name(node or default_name(serial))
        path = _path(tenant, serial)
        kv = await self._store.get(path)
        before = _decode(kv) if kv is not None else BoardRecord(serial)
        if before.node and node and before.node != name:
            raise Conflict(f"board {serial} is node {before.node} already; forget it first")
        approved = board_record.approved(before, str(name), key, network, self._clock())
        if not before.node:
            await self._check_name(tenant, str(name))
        if approved != before:
            await self._put(path, kv, approved)
            self._full.pop(tenant, None)
        return approved

    async def _check_name(self, tenant: TenantId, name: str) -> None:
        others = [kv for kv in await self._all(tenant) if _UNNAMED not in kv.value]
        if len(others) >= MAX_BOARDS:
            raise Conflict(f"tenant {tenant} has {MAX_BOARDS} boards; forget those that have joined")
        same = _of_node(name)
        if other := next((_decode(kv).serial for kv in others if same in kv.value), ""):
            raise Conflict(f"board {other} is node {name} already")

    async def forget(self, tenant: TenantId, serial: str) -> None:
        """A board that waits is refused by that, until it asks again; one that has joined stays a node. Raises NotFound."""
        if (await self._store.txn((), (Delete(_path(tenant, serial)),))).responses != (1,):
            raise NotFound(f"tenant {tenant} has no board {serial}")
        self._full.pop(tenant, None)

    async def forget_all(self, tenant: TenantId, prefix: str = "", state: str = "") -> list[str]:
        """Those whose serial numbers begin so, in that state ("": any); their serial numbers."""
        gone = [
            board.serial
            for board in await self.list(tenant)
            if board.serial.startswith(prefix) and state in ("", board.state)
        ]
        await self._forget(tenant, gone)
        self._full.pop(tenant, None)
        return gone

    async def gave(self, tenant: TenantId, board: BoardRecord, token: str, joined: str) -> None:
        """It got that token, and is the node that has joined with the other one ("": none has). Raises Unavailable when its record has changed
        meanwhile."""
        path = _path(tenant, board.serial)
        kv = await self._store.get(path)
        if kv is None or _decode(kv) != board:
            raise Unavailable("the record of this board has changed at the same moment", retry_after=1.0)
        await self._put(path, kv, replace(board, token=token, joined=joined))

    async def list(self, tenant: TenantId) -> list[BoardRecord]:
        """All that are known, in the order of their serial numbers."""
        return [_decode(kv) for kv in await self._all(tenant)]

    async def _all(self, tenant: TenantId) -> Sequence[KeyValue]:
        prefix = keys.boards(tenant)
        return (await self._store.range(prefix, keys.prefix_end(prefix))).kvs

    async def _put(self, path: str, kv: KeyValue | None, record: BoardRecord) -> None:
        same = Compare(path, CompareTarget.MOD, "=", kv.mod_revision if kv else 0)
        if not (await self._store.txn((same,), (Put(path, record.encode()),))).succeeded:
            raise Unavailable("two requests for one board at the same moment", retry_after=1.0)

    async def _make_room(self, tenant: TenantId) -> None:
        now = self._clock()
        is_full = 0 <= now - self._full.get(tenant, now - _LOOK_EVERY) < _LOOK_EVERY
        waiting = [] if is_full else [kv for kv in await self._all(tenant) if _UNNAMED in kv.value]
        if not is_full and len(waiting) < MAX_WAITING:
            return
        old = [board.serial for board in map(_decode, waiting) if board.asked + _KEEP < now]
        if not old:
            if not is_full:
                self._full[tenant] = now
            raise Conflict(f"{MAX_WAITING} boards of this tenant wait for approval already")
        await self._forget(tenant, old)

    async def _forget(self, tenant: TenantId, serials: Sequence[str]) -> None:
        for start in range(0, len(serials), _AT_ONCE):
            some = serials[start : start + _AT_ONCE]
            await self._store.txn((), tuple(Delete(_path(tenant, serial)) for serial in some))


def default_name(serial: str) -> str:
    """A name for the node of that board."""
    return "card-" + re.sub(r"[^a-z0-9]+", "-", serial.lower()).strip("-")[-48:].strip("-")


def _path(tenant: TenantId, serial: str) -> str:
    if not _SERIAL.fullmatch(serial):
        raise Invalid("4 to 64 letters, digits, '.', '_', ':' and '-' are expected", path="serial")
    return keys.boards(tenant) + serial


def _of_node(name: str) -> bytes:
    """What is in the record of the board that is node `name`: ten thousand of them are not decoded for each that is approved."""
    return f'"node":{json.dumps(name)},'.encode()


_UNNAMED = _of_node("")


def _decode(kv: KeyValue) -> BoardRecord:
    return board_record.decode(kv.value)


def as_json(boards: Sequence[BoardRecord]) -> list[dict[str, object]]:
    """As `kubeedge board list -o json` shows them."""
    return [
        {
            "serial": board.serial,
            "state": board.state,
            "node": board.node,
            "key": board.key,
            "address": board.address,
            "asked": board.asked,
            "approved": board.approved,
            "network": board.network,
            "rival": {"key": board.rival, "address": board.rival_address, "asked": board.rival_asked}
            if board.rival
            else None,
        }
        for board in boards
    ]
