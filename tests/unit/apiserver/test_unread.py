"""What clients that do not read may hold: bytes of a tenant, counted once when many wait for the same."""

from __future__ import annotations

import pytest

from kubeedge.api.names import TenantId
from kubeedge.api.status import TooManyRequests
from kubeedge.apiserver.unread import EventCache, UnreadBytes

A, B = TenantId("a"), TenantId("b")
MIB = 1 << 20
BUFFERED = 128 * 1024


class Client:
    def __init__(self, unread: UnreadBytes, tenant: TenantId, data: bytes, now: float = 0.0) -> None:
        self.cut = False
        self.held = unread.hold(tenant, data, self._cut, now)

    def _cut(self) -> None:
        self.cut = True


def test_one_event_counts_once_for_all_who_wait_for_it() -> None:
    unread, event = UnreadBytes(32 * MIB), bytes(MIB)
    clients = [Client(unread, A, event) for _ in range(150)]
    assert unread.of(A) == MIB + 150 * BUFFERED and not any(c.cut for c in clients)
    for client in clients:
        unread.release(client.held)
        unread.release(client.held)
    assert unread.of(A) == 0


def test_who_has_not_read_for_longest_is_cut_off_first() -> None:
    unread = UnreadBytes(4 * MIB)
    clients = [Client(unread, A, bytes([n]) * MIB) for n in range(3)]
    unread.progress(clients[0].held, 1.0)
    other = Client(unread, B, bytes(MIB))
    clients += [Client(unread, A, bytes([9, n]) * (MIB // 2)) for n in range(2)]
    assert [c.cut for c in clients] == [False, True, True, False, False] and not other.cut
    assert unread.of(A) <= 4 * MIB


def test_one_answer_may_be_larger_than_all_that_may_wait() -> None:
    unread = UnreadBytes(MIB)
    small = Client(unread, A, bytes(1000))
    large = Client(unread, A, bytes(3 * MIB))
    assert small.cut and not large.cut
    unread.release(large.held)
    assert unread.of(A) == 0


def test_a_list_is_made_once_others_have_read_or_been_cut_off() -> None:
    unread = UnreadBytes(4 * MIB)
    client = Client(unread, A, bytes(3 * MIB), now=0.0)
    unread.check(B, 0.0)
    with pytest.raises(TooManyRequests, match="have not read 3276800 bytes"):
        unread.check(A, 1.0)
    unread.progress(client.held, 2.0)
    with pytest.raises(TooManyRequests):
        unread.check(A, 4.0)
    unread.check(A, 5.0)
    assert client.cut and unread.of(A) == 0


def test_the_latest_events_are_kept_up_to_a_bound_and_the_last_one_always() -> None:
    cache = EventCache(limit=10)
    cache.put(("a",), b"12345")
    cache.put(("b",), b"12345")
    cache.put(("c",), b"1")
    assert cache.get(("a",)) is None and cache.get(("b",)) == b"12345"
    cache.put(("d",), bytes(100))
    assert cache.get(("c",)) is None and cache.get(("d",)) == bytes(100)
