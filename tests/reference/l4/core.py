"""One L4 connection as a pure state machine: segments, bytes and `now` in; segments, bytes and the next timer out. The reference implementation
of _fastpath/l4.

The face is TCP's, and so are the states (RFC 9293, section 3.3.2), with CLOSE_WAIT and FIN_WAIT folded into two flags: a direction ends with
its FIN, and the connection is over when both have.

    SYN_SENT ────SYN+ACK────┐
                            ├──> ESTABLISHED ──both FINs acknowledged──> CLOSED
    SYN_RECEIVED ────ACK────┘            └──RST, too many timeouts──> RESET

Sending: bytes wait in `_unsent`; what was sent and is not acknowledged is in `_flight`, in order. Selective acknowledgements mark flight as
received; three segments beyond a hole, or the retransmission timer (RFC 6298), send it again.

Receiving: bytes in order go to the reader; bytes beyond a hole wait in `_beyond`, within the window. The window is what the reader has room
for; a reader that takes nothing closes it, and the sender asks now and then (zero-window probe).

Lives elsewhere: which connection a segment is for (endpoint.py), sockets and tasks (driver.py).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from kubeedge._fastpath.l4_state import ConnectionState

from kubeedge.api.names import L4Port, NodeNumber, TenantNumber
from tests.reference.l4.budget import Budget, Node
from tests.reference.l4.congestion import NewReno
from tests.reference.l4.segment import ACK, CE, ECE, FIN, MAX_PAYLOAD, MAX_RANGES, RST, SYN, Segment, before, distance

RECEIVE_WINDOW = 1024 * 1024  # bytes that wait for the reader, or beyond a hole, at most
SEND_BUFFER = 512 * 1024  # bytes that the writer may leave with us before it has to wait
INITIAL_TIMEOUT = 1.0  # seconds (RFC 6298)
MINIMUM_TIMEOUT = 0.2
MAXIMUM_TIMEOUT = 10.0
GIVE_UP_AFTER = 60.0  # seconds without any acknowledgement: long enough for a link to be re-established
DELAYED_ACK = 0.02  # seconds
MAX_BEYOND = 1_024  # pieces beyond a hole
PIECE = 64  # bytes of memory that a piece takes besides its payload, about
ASK_AGAIN = 20.0  # seconds between two keepalive probes
_MASK = 0xFFFFFFFF


@dataclass(slots=True)
class _Sent:
    sequence: int
    payload: bytes
    flags: int
    sent_at: float
    retransmitted: bool = False
    received: bool = False  # selectively acknowledged
    lost: bool = False

    @property
    def length(self) -> int:
        return len(self.payload) + (1 if self.flags & (SYN | FIN) else 0)


@dataclass(slots=True)
class L4Connection:
    local_port: L4Port
    remote_port: L4Port
    initial_sequence: int
    state: ConnectionState = ConnectionState.SYN_SENT
    error: str = ""
    congestion: NewReno = field(default_factory=NewReno)
    node: Node = field(
        default_factory=lambda: Budget().node(TenantNumber(0), NodeNumber(0))
    )  # whose peer's memory this takes
    _next: int = 0  # sequence of the next new byte
    _unacknowledged: int = 0
    _peer_window: int = MAX_PAYLOAD
    _unsent: deque[bytes] = field(default_factory=deque)
    _unsent_bytes: int = 0
    _flight: deque[_Sent] = field(default_factory=deque)
    _flight_bytes: int = 0
    _fin_queued: bool = False
    _fin_sent: bool = False
    _fin_acknowledged: bool = False
    _recover: int | None = None  # end of the epoch in which a loss was answered
    _slowed: int | None = None  # end of the round trip in which a mark was answered
    _echo: bool = False  # a segment came marked: the peer is to know
    _expected: int = 0  # sequence of the next byte from the peer
    _ready: deque[bytes] = field(default_factory=deque)
    _ready_bytes: int = 0
    _beyond: dict[int, bytes] = field(default_factory=dict)
    _beyond_bytes: int = 0
    _peer_fin: int | None = None  # sequence of the peer's FIN
    _peer_ended: bool = False  # and we are there
    _srtt: float | None = None
    _rttvar: float = 0.0
    _timeout: float = INITIAL_TIMEOUT
    _timer: float | None = None
    _progress_at: float = 0.0
    _ack_at: float | None = None
    _unacked_segments: int = 0
    _advertised: int = 0  # window that the peer was told last
    _ack_now: bool = False
    _out: list[Segment] = field(default_factory=list)
    _keepalive: float = 0.0  # seconds of silence after which the peer is asked; 0: never
    _heard_at: float = 0.0
    _asked_at: float = -1.0
    charged: int = 0  # of `held`: what the node is known to hold (endpoint.py)

    # -- opening -------------------------------------------------------------------------------------------------------

    @classmethod
    def connect(
        cls, local_port: L4Port, remote_port: L4Port, initial_sequence: int, now: float, node: Node
    ) -> L4Connection:
        c = cls(local_port, remote_port, initial_sequence, node=node)
        c._next = c._unacknowledged = initial_sequence
        c._progress_at = c._heard_at = now
        c._transmit(_Sent(c._next, b"", SYN, now), now)
        return c

    @classmethod
    def accept(cls, syn: Segment, initial_sequence: int, now: float, node: Node) -> L4Connection:
        c = cls(syn.destination_port, syn.source_port, initial_sequence, ConnectionState.SYN_RECEIVED, node=node)
        c._next = c._unacknowledged = initial_sequence
        c._expected = c._advertised = (syn.sequence + 1) & _MASK
        c._peer_window = syn.window
        c._progress_at = c._heard_at = now
        c._transmit(_Sent(c._next, b"", SYN, now), now)
        return c

    # -- the user's side -----------------------------------------------------------------------------------------------

    def send(self, data: bytes, now: float) -> int:
        """Queue bytes: how many were taken. This one takes all; may_write() says whether more is welcome."""
        if self._fin_queued or self.state in (ConnectionState.CLOSED, ConnectionState.RESET) or not data:
            return 0
        for start in range(0, len(data), MAX_PAYLOAD):
            self._unsent.append(data[start : start + MAX_PAYLOAD] if len(data) > MAX_PAYLOAD else data)
        self._unsent_bytes += len(data)
        self._push(now)
        return len(data)

    def may_write(self) -> bool:
        return self._unsent_bytes < SEND_BUFFER and self.node.room(SEND_BUFFER - self._unsent_bytes, self._sending) > 0

    @property
    def held(self) -> int:
        """Bytes of memory, about."""
        return self._sending + self._receiving

    @property
    def _sending(self) -> int:
        return self._unsent_bytes + self._outstanding + PIECE * (len(self._unsent) + len(self._flight))

    @property
    def _outstanding(self) -> int:
        """Bytes that were sent and are not acknowledged."""
        return distance(self._flight[0].sequence, self._next) if self._flight else 0

    @property
    def _receiving(self) -> int:
        return self._ready_bytes + self._beyond_bytes + PIECE * (len(self._ready) + len(self._beyond))

    @property
    def buffered(self) -> int:
        """Bytes that are not sent yet."""
        return self._unsent_bytes

    def finish(self, now: float) -> None:
        """No more bytes from us; the other direction goes on."""
        if not self._fin_queued and self.state not in (ConnectionState.CLOSED, ConnectionState.RESET):
            self._fin_queued = True
            self._push(now)

    def abort(self, reason: str) -> None:
        if self.state not in (ConnectionState.CLOSED, ConnectionState.RESET):
            self._out.append(self._segment(self._next, b"", RST | ACK))
            self._end(ConnectionState.RESET, reason)

    def keepalive(self, seconds: float) -> None:
        """After so many seconds of silence the peer is asked whether it is there, and given up after GIVE_UP_AFTER more."""
        self._keepalive = seconds

    def read(self, now: float, limit: int = RECEIVE_WINDOW) -> bytes:
        """Bytes in order; b"" when there are none now."""
        taken, total = [], 0
        while self._ready and total < limit:
            part = self._ready.popleft()
            taken.append(part)
            total += len(part)
        self._ready_bytes -= total
        if total and self.state is ConnectionState.ESTABLISHED:
            # the peer may be waiting for room: tell it when that is worth a segment
            if self._window() - distance(self._expected, self._advertised) >= RECEIVE_WINDOW // 4:
                self._ack_now = True
        return b"".join(taken) if len(taken) != 1 else taken[0]

    @property
    def waiting(self) -> int:
        """Bytes to read."""
        return self._ready_bytes

    def at_eof(self) -> bool:
        return self._peer_ended and not self._ready

    # -- the network's side --------------------------------------------------------------------------------------------

    def receive(self, s: Segment, now: float) -> None:
        self._heard_at = now
        if self.state in (ConnectionState.CLOSED, ConnectionState.RESET):
            if self.state is ConnectionState.CLOSED and (
                s.payload or s.flags & FIN
            ):  # our last acknowledgement was lost
                self._out.append(self._segment(self._next, b"", ACK))
            return
        if s.flags & RST:
            # only one that is in place, or answers our SYN (RFC 5961 in short)
            if self._peer_ended and all(entry.flags & FIN for entry in self._flight):
                self._end(
                    ConnectionState.CLOSED, ""
                )  # the peer has forgotten us after its last acknowledgement was lost
            elif self.state is ConnectionState.SYN_SENT or distance(self._expected, s.sequence) <= RECEIVE_WINDOW:
                self._end(
                    ConnectionState.RESET,
                    "refused by the peer" if self.state is ConnectionState.SYN_SENT else "reset by the peer",
                )
            return
        if self.state is ConnectionState.SYN_SENT:
            if s.flags & ACK and s.acknowledgement != (self.initial_sequence + 1) & _MASK:
                # of an earlier connection with these ports (RFC 9293, section 3.10.7.3)
                self._out.append(Segment(self.local_port, self.remote_port, s.acknowledgement, 0, 0, RST | ACK))
                return
            if not (s.flags & SYN and s.flags & ACK):
                return
            self._expected = self._advertised = (s.sequence + 1) & _MASK
            self.state = ConnectionState.ESTABLISHED
            self._ack_now = True
        elif s.flags & SYN:  # the peer did not hear our answer
            self._ack_now = True
            return
        if s.flags & ACK:
            self._on_ack(s, now)
            if self.state is ConnectionState.SYN_RECEIVED and self._unacknowledged != self.initial_sequence:
                self.state = ConnectionState.ESTABLISHED
        if s.payload or s.flags & FIN:
            self._on_data(s, now)
        elif s.sequence == (self._expected - 1) & _MASK:
            self._ack_now = True  # the peer asks whether we are there, or for room (RFC 9293, section 3.8.4)
        self._push(now)
        self._check_end()

    def next_timer(self) -> float | None:
        times = [t for t in (self._timer, self._ack_at, self._ask_at()) if t is not None]
        return min(times) if times else None

    def _ask_at(self) -> float | None:
        if not self._keepalive or self.state is not ConnectionState.ESTABLISHED or self._flight or self._unsent:
            return None
        return self._asked_at + ASK_AGAIN if self._asked_at > self._heard_at else self._heard_at + self._keepalive

    def handle_timer(self, now: float) -> None:
        if self._ack_at is not None and now >= self._ack_at:
            self._ack_now = True
        ask = self._ask_at()
        if ask is not None and now >= ask:
            if now - self._heard_at >= self._keepalive + GIVE_UP_AFTER:
                self.abort("no sign of the peer")
                return
            self._asked_at = now
            self._out.append(self._segment((self._next - 1) & _MASK, b"", ACK))
        if self._timer is None or now < self._timer or self.state in (ConnectionState.CLOSED, ConnectionState.RESET):
            return
        if now - self._progress_at >= GIVE_UP_AFTER:
            self.abort(f"no acknowledgement within {GIVE_UP_AFTER:g} s")
            return
        self._timeout = min(self._timeout * 2, MAXIMUM_TIMEOUT)
        if self._flight and self._flight[0].received:  # the peer has it no more (RFC 2018, section 8)
            for entry in self._flight:
                if entry.received:
                    entry.received, entry.lost, entry.retransmitted = False, True, True
        first = next((e for e in self._flight if not e.received), None)
        if first is not None:
            self.congestion.on_timeout()
            self._recover = self._next
            self._lose_flight()
            self._again(first, now)
        elif self._unsent:  # the window is closed: ask with one byte
            self._probe_window(now)
        self._timer = now + self._timeout

    def segments_to_send(self) -> list[Segment]:
        out, self._out = self._out, []
        if self._ack_now and self.state is ConnectionState.ESTABLISHED and not any(s.flags & ACK for s in out):
            out.append(self._segment(self._next, b"", ACK))
        if out:
            self._ack_now, self._ack_at, self._unacked_segments = False, None, 0
        return out

    # -- acknowledgements ----------------------------------------------------------------------------------------------

    def _on_ack(self, s: Segment, now: float) -> None:
        if before(self._next, s.acknowledgement) or before(s.acknowledgement, self._unacknowledged):
            return
        if self._peer_window == 0 and s.window > 0:  # what was sent to ask for room was not taken
            self._lose_flight()
        self._peer_window = s.window
        limited = self._flight_bytes * 2 >= self.congestion.window
        acked = self._take_acknowledged(s.acknowledgement, now)
        newly = self._mark_ranges(s.ranges)
        if acked or newly:
            self._progress_at = now
        if s.flags & ECE and (self._slowed is None or not before(s.acknowledgement, self._slowed)):
            self._slowed = self._next
            self.congestion.on_marked()
        if acked:
            self._settle_timeout()  # the path works again: its back-off is over
            self.congestion.on_acked(acked, limited=limited)
            if self._recover is not None and not before(s.acknowledgement, self._recover):
                self._recover = None
        self._detect_loss(now)
        if not self._flight and not (self._unsent and self._peer_window == 0):
            self._timer = None
        elif acked or self._timer is None:
            self._timer = now + self._timeout

    def _take_acknowledged(self, acknowledgement: int, now: float) -> int:
        acked = 0
        while self._flight:
            entry = self._flight[0]
            end = (entry.sequence + entry.length) & _MASK
            if before(acknowledgement, end):
                break
            self._flight.popleft()
            if not entry.received and not entry.lost:
                self._flight_bytes -= entry.length
            acked += entry.length
            if not entry.retransmitted and not entry.received:
                self._measure(now - entry.sent_at)
            if entry.flags & FIN:
                self._fin_acknowledged = True
        self._unacknowledged = acknowledgement
        return acked

    def _mark_ranges(self, ranges: tuple[tuple[int, int], ...]) -> bool:
        newly = False
        for first, end in ranges:
            if distance(self._unacknowledged, end) > distance(self._unacknowledged, self._next):
                continue
            for entry in self._flight:
                inside = not before(entry.sequence, first) and not before(end, (entry.sequence + entry.length) & _MASK)
                if inside and not entry.received:
                    if not entry.lost:
                        self._flight_bytes -= entry.length
                    entry.received = newly = True
                    entry.lost = False
        return newly

    def _detect_loss(self, now: float) -> None:
        """A segment with three later ones received is lost (RFC 6675, with whole segments)."""
        later = sum(1 for entry in self._flight if entry.received)
        if not later:
            return
        for entry in self._flight:
            if entry.received:
                later -= 1
                continue
            if later < 3:
                break
            if not entry.lost and not entry.retransmitted:
                if self._recover is None:
                    self._recover = self._next
                    self.congestion.on_lost()
                self._again(entry, now)

    def _measure(self, sample: float) -> None:
        if self._srtt is None:
            self._srtt, self._rttvar = sample, sample / 2
        else:
            self._rttvar = 0.75 * self._rttvar + 0.25 * abs(self._srtt - sample)
            self._srtt = 0.875 * self._srtt + 0.125 * sample
        self._settle_timeout()

    def _settle_timeout(self) -> None:
        if self._srtt is not None:
            self._timeout = min(MAXIMUM_TIMEOUT, max(MINIMUM_TIMEOUT, self._srtt + 4 * self._rttvar))

    # -- receiving -----------------------------------------------------------------------------------------------------

    def _on_data(self, s: Segment, now: float) -> None:
        start, payload = s.sequence, s.payload
        self._echo = self._echo or bool(s.flags & CE)
        if s.flags & FIN and self._peer_fin is None:
            end = (s.sequence + len(payload)) & _MASK
            if not before(end, self._expected):
                self._peer_fin = end
        if before(start, self._expected):  # what we have already
            overlap = distance(start, self._expected)
            if overlap >= len(payload):
                payload = b""
            else:
                payload, start = payload[overlap:], self._expected
            self._ack_now = True
        if payload:
            promised = distance(self._expected, self._advertised) if before(self._expected, self._advertised) else 0
            no_room = start == self._expected and not self._make_room(len(payload))
            behind = self._peer_fin is not None and before(self._peer_fin, start + len(payload) & _MASK)
            if distance(self._expected, start) + len(payload) > promised or no_room or behind:
                self._ack_now = True  # the sender asks again
                return
            if start == self._expected:
                self._deliver(payload)
                self._close_holes()
                self._unacked_segments += 1
            else:
                self._keep_beyond(start, payload)
                self._ack_now = True
        if self._peer_fin is not None and self._peer_fin == self._expected and not self._peer_ended:
            self._expected = (self._expected + 1) & _MASK
            self._peer_ended = True
            self._ack_now = True
        if self._unacked_segments >= 2:
            self._ack_now = True
        elif self._unacked_segments and self._ack_at is None:
            self._ack_at = now + DELAYED_ACK

    def _make_room(self, length: int) -> bool:
        """For what comes in order. What lies beyond a hole goes first (RFC 2018, section 8): it would wait for what there is no room for."""
        held = self.held
        if not self.node.may_keep(length, self._receiving) and self._beyond:
            self._beyond.clear()
            self._beyond_bytes = 0
            self.node.add(bytes=self.held - held)
            self.charged += self.held - held
        return self.node.may_keep(length, self._receiving)

    def _keep_beyond(self, start: int, payload: bytes) -> None:
        """Only what is not there yet: pieces never overlap, so all of them together are not more than the window."""
        first, end = distance(self._expected, start), distance(self._expected, start) + len(payload)
        free = first
        for at in [*sorted(distance(self._expected, a) for a in self._beyond), end]:
            piece = payload[free - first : max(0, min(at, end) - first)] if free < at else b""
            if piece and len(self._beyond) < MAX_BEYOND and self.node.may_keep_beyond(PIECE + len(piece)):
                self._beyond[(self._expected + free) & _MASK] = piece
                self._beyond_bytes += len(piece)
            if at >= end:
                return
            free = max(free, at + len(self._beyond[(self._expected + at) & _MASK]))

    def _deliver(self, payload: bytes) -> None:
        self._ready.append(payload)
        self._ready_bytes += len(payload)
        self._expected = (self._expected + len(payload)) & _MASK

    def _close_holes(self) -> None:
        while self._beyond:
            payload = self._beyond.pop(self._expected, None)
            if payload is None:
                stale = [at for at in self._beyond if before(at, self._expected)]
                for at in stale:
                    self._beyond_bytes -= len(self._beyond[at])
                    part = self._beyond.pop(at)
                    overlap = distance(at, self._expected)
                    if overlap < len(part):
                        self._deliver(part[overlap:])
                if not stale:
                    return
                self._ack_now = True
                continue
            self._beyond_bytes -= len(payload)
            self._deliver(payload)
            self._ack_now = True

    def _window(self) -> int:
        promised = distance(self._expected, self._advertised) if before(self._expected, self._advertised) else 0
        return max(0, self.node.window_limit(RECEIVE_WINDOW) - self._ready_bytes, promised)

    # -- sending -------------------------------------------------------------------------------------------------------

    def _push(self, now: float) -> None:
        """Lost segments first, then new ones, as far as both windows allow."""
        if self.state is not ConnectionState.ESTABLISHED:
            return
        for entry in self._flight:
            if entry.lost:
                if self._flight_bytes + entry.length > self.congestion.window and self._flight_bytes:
                    break
                self._again(entry, now)
        outstanding = distance(self._unacknowledged, self._next)
        while self._unsent:
            payload = self._unsent[0]
            if self._flight_bytes + len(payload) > self.congestion.window and self._flight:
                break
            if outstanding + len(payload) > self._peer_window:
                break
            # small writes share a segment
            self._unsent.popleft()
            while self._unsent and len(payload) + len(self._unsent[0]) <= min(
                MAX_PAYLOAD, self._peer_window - outstanding
            ):
                payload += self._unsent.popleft()
            self._unsent_bytes -= len(payload)
            outstanding += len(payload)
            self._transmit(_Sent(self._next, payload, 0, now), now)
        if self._fin_queued and not self._fin_sent and not self._unsent:
            self._fin_sent = True
            self._transmit(_Sent(self._next, b"", FIN, now), now)
        if self._unsent and self._timer is None:
            self._timer = now + self._timeout

    def _probe_window(self, now: float) -> None:
        first = self._unsent.popleft()
        self._unsent_bytes -= 1
        if len(first) > 1:
            self._unsent.appendleft(first[1:])
        self._transmit(_Sent(self._next, first[:1], 0, now), now)

    def _transmit(self, entry: _Sent, now: float) -> None:
        if not self._flight:
            self._progress_at = now  # silence counts from here
        self._flight.append(entry)
        self._flight_bytes += entry.length
        self._next = (self._next + entry.length) & _MASK
        self._out.append(self._segment(entry.sequence, entry.payload, self._flags(entry)))
        if self._timer is None:
            self._timer = now + self._timeout

    def _lose_flight(self) -> None:
        """Nothing that is out is believed to arrive: it no longer counts against the window, and is sent again as that allows."""
        for entry in self._flight:
            if not entry.received and not entry.lost:
                entry.lost = True
                self._flight_bytes -= entry.length

    def _again(self, entry: _Sent, now: float) -> None:
        if entry.lost:
            self._flight_bytes += entry.length
        entry.retransmitted, entry.lost, entry.sent_at = True, False, now
        self._out.append(self._segment(entry.sequence, entry.payload, self._flags(entry)))

    def _flags(self, entry: _Sent) -> int:
        opening = self.state is ConnectionState.SYN_SENT
        return entry.flags | (0 if opening else ACK)

    def _segment(self, sequence: int, payload: bytes, flags: int) -> Segment:
        window = self._window()
        acknowledgement = 0
        ranges: tuple[tuple[int, int], ...] = ()
        if flags & ACK:
            acknowledgement = self._expected
            self._advertised = (self._expected + window) & _MASK
            ranges = self._ranges() if self._beyond else ()
            if self._echo:
                flags, self._echo = flags | ECE, False
        return Segment(self.local_port, self.remote_port, sequence, acknowledgement, window, flags, ranges, payload)

    def _ranges(self) -> tuple[tuple[int, int], ...]:
        """What lies beyond the hole, joined, nearest first."""
        joined: list[tuple[int, int]] = []
        for at in sorted(self._beyond, key=lambda a: distance(self._expected, a)):
            end = (at + len(self._beyond[at])) & _MASK
            if joined and joined[-1][1] == at:
                joined[-1] = (joined[-1][0], end)
            else:
                joined.append((at, end))
        return tuple(joined[:MAX_RANGES])

    # -- the end -------------------------------------------------------------------------------------------------------

    def _check_end(self) -> None:
        if self._fin_acknowledged and self._peer_ended:
            self._end(ConnectionState.CLOSED, "")

    def _end(self, state: ConnectionState, error: str) -> None:
        if self._ack_now and state is ConnectionState.CLOSED:
            self._out.append(self._segment(self._next, b"", ACK))
        self.state, self.error = state, error
        self._timer = self._ack_at = None
        self._ack_now = False
        self._flight.clear()
        self._flight_bytes = 0
        self._unsent.clear()
        self._unsent_bytes = 0
        self._beyond.clear()
        self._beyond_bytes = 0
