"""What this relay registers of itself and of its nodes in the store, as long as it lives.

    /bus/relays/ID       RelayRecord                            a relay, while it lives
    /bus/numbers/NNNNN   ID                                     its L4 number
    /bus/tuns/TTTTT/A    {"relay": ID, "addresses": [...]}      whose own address A is, on the network of tenant number T
    /bus/nodes/T/N       NextHop                                where node N of tenant T is linked

All of them are attached to one lease and vanish with it. After a lost lease a new one is taken, and everything is registered again: the links of nodes do not
hang on it, so a store that is away for an hour ends none of them.

Lives elsewhere: the records (records.py), what other relays say (peers.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

from kubeedge.api import keys
from kubeedge.api.names import NodeKey, NodeNumber, TenantNumber
from kubeedge.errors import Conflict, KubeEdgeError, NotFound, Unavailable
from kubeedge.store.model import Compare, CompareTarget, Delete, Put, Store, absent
from kubeedge_cloud.bushub.records import NextHop, RelayRecord, decode_next_hop

log = logging.getLogger("kubeedge.bushub")

_TTL = 10.0  # seconds that a dead relay is remembered
_KEEPALIVE = 3.0  # seconds
_MAX_RELAYS = 32
_AGAIN = 1.0  # seconds before a write that failed is tried again


class Registration:
    """What this relay writes of itself and of its nodes into the store, under its lease. `addresses`: "host:port" where other relays reach
    us, `first_number`: the lowest that a relay may have, `moved` is called for a node
    that turns out to be at another relay."""

    def __init__(
        self,
        store: Store,
        id: str,
        addresses: Sequence[str],
        first_number: NodeNumber,
        moved: Callable[[NodeKey, NextHop], None],
    ) -> None:
        self._store = store
        self._id = id
        self._addresses = tuple(addresses)
        self._first_number = first_number
        self._moved = moved
        self.number = NodeNumber(0)
        self.lease = 0
        self._tun: tuple[TenantNumber, str] | None = None
        self._ours: dict[NodeKey, NextHop] = {}
        self._revisions: dict[NodeKey, int] = {}  # of our own last write
        self._dirty: dict[NodeKey, None] = {}
        self._wake = asyncio.Event()

    async def prepare(self) -> NodeNumber:
        """A lease, our number, our record. Raises Unavailable."""
        self.lease = await self._store.lease_grant(_TTL)
        for number in map(NodeNumber, range(self._first_number, self._first_number + _MAX_RELAYS)):
            if await self._claim_number(number):
                self.number = number
                await self._put_record()
                return number
        raise Unavailable(f"there are {_MAX_RELAYS} relays already")

    async def claim_address(self, tenant: TenantNumber, address: str) -> str:
        """An own address ("100.64.255.254/16") on the network of that tenant: "" when it is ours, and the other relays hear of it; else
        who has it. Raises Unavailable.

        A relay that died a moment ago still has its keys. One that was reached where we are now was our predecessor: two cannot
        listen on one port.
        """
        key = keys.relay_tun(tenant, address.split("/")[0])
        ours = {"relay": self._id, "addresses": list(self._addresses)}
        claim = Put(key, json.dumps(ours).encode(), self.lease)
        if not (await self._store.txn([absent(key)], [claim])).succeeded:
            found = await self._store.get(key)
            owner = _owner(found.value) if found is not None else {}
            if found is None or owner.get("addresses") != ours["addresses"]:
                return f"the cloud process at {', '.join(map(str, owner.get('addresses', ()))) or 'another address'}"
            unchanged = Compare(key, CompareTarget.MOD, "=", found.mod_revision)
            if not (await self._store.txn([unchanged], [claim])).succeeded:
                return "another cloud process"
        self._tun = (tenant, address)
        await self._put_record()
        return ""

    # -- nodes ---------------------------------------------------------------------------------------------------------

    def here(self, node: NodeKey, next_hop: NextHop) -> None:
        """The node is linked to us."""
        self._ours[node] = next_hop
        self._dirty[node] = None
        self._wake.set()

    def gone(self, node: NodeKey) -> None:
        """The node is not linked to us any more. Idempotent."""
        if self._ours.pop(node, None) is not None:
            self._dirty[node] = None
            self._wake.set()

    def lost(self, node: NodeKey, revision: int) -> bool:
        """Another relay wrote at that revision that it has the node. True: until then we had it, and do not now."""
        if node not in self._ours or node in self._dirty or revision <= self._revisions.get(node, 0):
            return False
        del self._ours[node]
        self._revisions.pop(node, None)
        return True

    # -- tasks ---------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """After prepare(), until it is cancelled. Raises Unavailable when the relay has to start over."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep_lease(), name="lease of the relay")
                tasks.create_task(self._write(), name="next hops of nodes")
        finally:
            with contextlib.suppress(KubeEdgeError, TimeoutError):
                async with asyncio.timeout(2.0):
                    await self._store.lease_revoke(self.lease)

    async def _keep_lease(self) -> None:
        expired = told = False
        while True:
            await asyncio.sleep(_KEEPALIVE)
            try:
                if not expired:
                    async with asyncio.timeout(_KEEPALIVE):
                        await self._store.lease_keepalive(self.lease)
            except NotFound:
                log.warning("the lease of this relay expired; it registers again")
                expired = True
            except (KubeEdgeError, TimeoutError) as exc:
                # data flows between the nodes that are here; others cannot find them
                if not told:
                    log.warning("cannot renew the lease of this relay: %s", exc or "the store does not answer")
                told = True
                continue
            told = False
            if expired:
                expired = not await self._registered_again()

    async def _registered_again(self) -> bool:
        """False: the store does not answer. Raises Unavailable when another relay has our number: L4 connections would find that one."""
        try:
            async with asyncio.timeout(_TTL):
                await self._register_again()
        except Conflict as exc:
            raise Unavailable(f"{exc}; this relay starts over") from exc
        except (KubeEdgeError, TimeoutError) as exc:
            log.warning("the relay is not known to the others: %s", exc or "the store does not answer")
            return False
        return True

    async def _register_again(self) -> None:
        """Our keys went with the lease. Raises Conflict when another relay has our number."""
        self.lease = await self._store.lease_grant(_TTL)
        if not await self._claim_number(self.number):
            found = await self._store.get(keys.relay_number(self.number))
            if found is None or found.value.decode(errors="replace") != self._id:
                raise Conflict(f"another relay has the number {self.number} now")
            await self._store.put(found.key, found.value, self.lease)  # left of an attempt that was cut short
        await self._put_record()
        if self._tun is not None and (owner := await self.claim_address(*self._tun)):
            log.error("%s has the address %s of this process now", owner, self._tun[1])
        for node, next_hop in list(self._ours.items()):
            await self._claim_again(node, next_hop)
        self._wake.set()

    async def _claim_again(self, node: NodeKey, next_hop: NextHop) -> None:
        key = keys.linked(*node)
        done = await self._store.txn([absent(key)], [Put(key, next_hop.encode(), self.lease)])
        if done.succeeded:
            self._revisions[node] = done.revision
            return
        found = await self._store.get(key)
        there = decode_next_hop(found.value) if found is not None else None
        if there is not None and there.relay != self._id and self._ours.pop(node, None) is not None:
            self._revisions.pop(node, None)
            self._moved(node, there)
        elif found is not None:
            self._dirty[node] = None

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._dirty:
                node = next(iter(self._dirty))
                del self._dirty[node]
                try:
                    await self._write_one(node)
                except KubeEdgeError as exc:
                    log.warning("cannot say where node %s is: %s", node[1], exc)
                    self._dirty[node] = None
                    await asyncio.sleep(_AGAIN)

    async def _write_one(self, node: NodeKey) -> None:
        key = keys.linked(*node)
        next_hop = self._ours.get(node)
        if next_hop is not None:
            self._revisions[node] = await self._store.put(key, next_hop.encode(), self.lease)
            return
        revision = self._revisions.pop(node, 0)
        if revision:  # what another relay has written since is not ours to delete
            await self._store.txn([Compare(key, CompareTarget.MOD, "=", revision)], [Delete(key)])

    async def _claim_number(self, number: NodeNumber) -> bool:
        key = keys.relay_number(number)
        return (await self._store.txn([absent(key)], [Put(key, self._id.encode(), self.lease)])).succeeded

    async def _put_record(self) -> None:
        record = RelayRecord(self._addresses, self.number, self._tun)
        await self._store.put(keys.RELAYS + self._id, record.encode(), self.lease)


def _owner(value: bytes) -> dict[str, Any]:
    try:
        owner = json.loads(value)
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}
