"""The queue of a link: control first, then flows that share it fairly. The reference implementation of _fastpath/link/queue.c.

FQ-CoDel (RFC 8290) with two changes: flows are told apart by a 32-bit hash and kept only while they have something queued, and the
quantum is larger, because a packet may have 64 KiB. A flow that has just begun (a ping, a bare acknowledgement) goes before those
that have a backlog. CoDel (RFC 8289) marks or drops where a flow's packets wait too long; at the queue's bound the longest flow loses
its oldest packets.

Times are microseconds that wrap at 2**32; sizes are bytes.
"""

from __future__ import annotations

from collections import deque
from math import isqrt

from kubeedge.wire_format import frame as wire
from tests.reference import packets

QUANTUM = 8192
TARGET = 5_000  # us that a packet may wait
INTERVAL = 100_000  # us that it may wait longer: a worst-case round trip
FLOWS = 1024  # of one queue; what is beyond shares one
_WRAP = 1 << 32
_L4_HEADER, _L4_FLAGS, _L4_NO_DATA, _L4_MARK = 18, 16, 0b1001, 16  # of a segment: bytes, offset, SYN and RST, CE


def _since(now: int, then: int) -> int:
    """now - then, negative when `then` is still to come"""
    return (now - then + _WRAP // 2) % _WRAP - _WRAP // 2


def _next_drop(at: int, count: int) -> int:
    return (at + INTERVAL * 256 // isqrt(count << 16)) % _WRAP


class _Flow:
    __slots__ = (
        "bytes",
        "count",
        "deficit",
        "drop_next",
        "dropping",
        "first_above",
        "key",
        "largest",
        "last_count",
        "waiting",
    )

    def __init__(self, key: int) -> None:
        self.key = key
        self.waiting: deque[tuple[bytes, int]] = deque()  # frame, when it came
        self.bytes = self.largest = 0
        self.deficit = QUANTUM
        self.first_above: int | None = None
        self.dropping = False
        self.drop_next = self.count = self.last_count = 0

    def too_late(self, frame: bytes, at: int, now: int) -> bool:
        """Has its head waited too long, for long enough?"""
        if (now - at) % _WRAP < TARGET or self.bytes < self.largest:
            self.first_above = None
            return False
        if self.first_above is None:
            self.first_above = (now + INTERVAL) % _WRAP
            return False
        return _since(now, self.first_above) >= 0


class FairQueue:
    def __init__(self) -> None:
        self.bytes = self.control_bytes = self.marked = 0
        self.dropped: list[bytes] = []  # the caller empties it
        self._control: deque[bytes] = deque()
        self._fresh: deque[_Flow] = deque()
        self._old: deque[_Flow] = deque()
        self._flows: dict[int, _Flow] = {}

    def __bool__(self) -> bool:
        return bool(self._control or self.bytes)

    def put(self, frame: bytes, flow: int, now: int, limit: int) -> None:
        if flow not in self._flows and len(self._flows) >= FLOWS:
            flow = 0
        found = self._flows.get(flow)
        if found is None:
            found = self._flows[flow] = _Flow(flow)
            self._fresh.append(found)
        found.waiting.append((frame, now))
        found.bytes += len(frame)
        found.largest = max(found.largest, len(frame))
        self.bytes += len(frame)
        while self.bytes > limit:
            longest = max((*self._fresh, *self._old), key=lambda f: f.bytes)
            gone = self._pop(longest)
            assert gone is not None
            self.dropped.append(gone[0])

    def put_control(self, frame: bytes) -> None:
        self._control.append(frame)
        self.control_bytes += len(frame)

    def get(self, now: int) -> bytes | None:
        """None: empty."""
        if self._control:
            control = self._control.popleft()
            self.control_bytes -= len(control)
            return control
        while flows := self._fresh or self._old:
            flow = flows[0]
            if flow.deficit <= 0:
                flow.deficit += QUANTUM
                flows.popleft()
                self._old.append(flow)
                continue
            frame = self._take(flow, now)
            if frame is not None:
                flow.deficit -= len(frame)
                return frame
            flows.popleft()
            if flows is self._fresh and self._old:
                self._old.append(flow)  # one turn among the others, else it could always be new
            else:
                del self._flows[flow.key]
        return None

    def _pop(self, flow: _Flow) -> tuple[bytes, int] | None:
        if not flow.waiting:
            return None
        frame, at = flow.waiting.popleft()
        flow.bytes -= len(frame)
        self.bytes -= len(frame)
        return frame, at

    def _take(self, flow: _Flow, now: int) -> bytes | None:
        head = self._pop(flow)
        if head is None:
            flow.dropping, flow.first_above = False, None
            return None
        late = flow.too_late(*head, now)
        if flow.dropping:
            flow.dropping = late
            while flow.dropping and _since(now, flow.drop_next) >= 0:
                flow.count += 1
                flow.drop_next = _next_drop(flow.drop_next, flow.count)
                marked = self._mark(head[0])
                if marked is not None:
                    return marked
                self.dropped.append(head[0])
                head = self._pop(flow)
                if head is None:
                    flow.dropping, flow.first_above = False, None
                    return None
                flow.dropping = flow.too_late(*head, now)
        elif late:
            marked = self._mark(head[0])
            if marked is not None:
                head = (marked, head[1])
            else:
                self.dropped.append(head[0])
                head = self._pop(flow)
                if head is not None:
                    flow.too_late(*head, now)
            flow.dropping = True
            delta = flow.count - flow.last_count
            flow.count = delta if delta > 1 and (now - flow.drop_next) % _WRAP < 16 * INTERVAL else 1
            flow.drop_next = _next_drop(now, flow.count)
            flow.last_count = flow.count
        return head[0] if head is not None else None

    def _mark(self, frame: bytes) -> bytes | None:
        """The frame, marked instead of dropped (RFC 3168); None where that cannot be."""
        if frame and frame[0] in (wire.SEGMENT, wire.TENANT_SEGMENT):
            marked = _mark_segment(frame)
            self.marked += marked is not None
            return marked
        before = {wire.PACKET: wire.HEADER, wire.TENANT_PACKET: wire.HEADER + wire.TENANT}.get(frame[0] if frame else 0)
        if before is None or len(frame) < before + wire.VNET_HEADER + 20:
            return None
        before += wire.VNET_HEADER
        packet = bytearray(frame[before:])
        if not packets.mark_congestion(packet):
            return None
        self.marked += 1
        return frame[:before] + packet


def _mark_segment(frame: bytes) -> bytes | None:
    """A segment with a payload carries the mark in its own header (l4/segment.py)."""
    head = wire.HEADER + (wire.TENANT if frame[0] == wire.TENANT_SEGMENT else 0) + wire.ADDRESS
    if len(frame) < head + _L4_HEADER or frame[head + _L4_FLAGS] & _L4_NO_DATA:
        return None
    if len(frame) <= head + _L4_HEADER + 8 * frame[head + _L4_HEADER - 1]:
        return None
    marked = bytearray(frame)
    marked[head + _L4_FLAGS] |= _L4_MARK
    return bytes(marked)
