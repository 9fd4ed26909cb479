"""The broker's sessions, subscriptions and retained messages. Pure: packets and times in; what is to be sent is in each session.

A session is a queue of messages for one client: bounded in number and bytes, and when it is full the oldest message goes, as it is the one
that a newer one has most likely replaced. Messages of QoS 1 stay until the client has acknowledged them, over a broken connection too, as
long as the session lives. Sessions and retained messages live as long as the process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from kubeedge.kit.dataclasses import dataclass, field
from kubeedge.kit.varint import varint
from kubeedge.mqtt import codec
from kubeedge.mqtt.codec import Connect, MqttError, Publish, Subscription

_FOREVER = 0xFFFFFFFF  # the expiry of a session that has none


@dataclass(frozen=True, slots=True)
class MqttLimits:
    """The limits of one broker; of one session where it says so."""

    sessions: int = 256  # connected ones and those that wait for their clients
    filters: int = 512  # of a session
    all_filters: int = 8192  # of all sessions together
    wildcards: int = (
        1024  # different filters with wildcards, of all sessions together: each message is compared with each of them
    )
    queued: int = 1000  # messages of a session
    queued_bytes: int = 1024 * 1024  # of a session
    all_queued_bytes: int = 4 * 1024 * 1024  # of all sessions together, with what is in flight
    retained: int = 1024  # messages
    retained_bytes: int = 2 * 1024 * 1024
    in_flight: int = 32  # messages of QoS 1 that a client has not acknowledged
    in_flight_bytes: int = 64 * 1024  # of a session; one message may be larger


class ClientRights(Protocol):
    """What a client may do. `name` says whose session it is: another user gets none of it."""

    @property
    def name(self) -> str:
        """The user, in messages."""
        ...

    def may_publish(self, topic: str) -> bool:
        """A message of the client on that topic is taken."""
        ...

    def may_receive(self, topic: str) -> bool:
        """A message on that topic goes to the client, whatever it has subscribed to."""
        ...


@dataclass(slots=True)
class MqttSession:
    """What a client has here. `dropped` counts messages for which there was no room."""

    client_id: str
    version: int = codec.V5
    connected: bool = False
    expiry: int = 0  # seconds after the end of the connection
    expires_at: float = 0.0  # while it is not connected
    will: Publish | None = None
    filters: dict[str, Subscription] = field(default_factory=dict)
    queue: deque[Publish] = field(default_factory=deque)
    queued_bytes: int = 0
    in_flight: dict[int, Publish] = field(default_factory=dict)
    receive_max: int = 32
    most_in_flight: int = 64 * 1024  # bytes
    in_flight_bytes: int = 0
    max_packet: int = 0
    dropped: int = 0
    rights: ClientRights | None = None  # None: all
    _next_id: int = 0

    def check(self, rights: ClientRights | None) -> None:
        """Raises MqttError when the session is another user's."""
        if (self.rights.name if self.rights else None) != (rights.name if rights else None):
            raise MqttError("the client identifier is another user's", codec.NOT_AUTHORIZED)

    def take(self) -> Publish | None:
        """The next message that may be sent now; None: there is none, or the client has to acknowledge others first."""
        if not self.queue or (self.queue[0].qos and self._has_enough(self.queue[0])):
            return None
        message = self.queue.popleft()
        self.queued_bytes -= _size(message)
        if not message.qos:
            return message
        while True:
            self._next_id = self._next_id % 65535 + 1
            if self._next_id not in self.in_flight:
                break
        message = Publish(message.topic, message.payload, 1, message.retain, message.dup, self._next_id)
        self.in_flight[self._next_id] = message
        self.in_flight_bytes += _size(message)
        return message

    def _has_enough(self, message: Publish) -> bool:
        """Whether the client has to acknowledge other messages first."""
        full = self.in_flight_bytes + _size(message) > self.most_in_flight
        return len(self.in_flight) >= self.receive_max or (full and bool(self.in_flight))

    def acknowledged(self, packet_id: int) -> int:
        """The client has that message; returns how many bytes that frees."""
        if (message := self.in_flight.pop(packet_id, None)) is None:
            return 0
        size = _size(message)
        self.in_flight_bytes -= size
        return size

    @property
    def bytes(self) -> int:
        """Of all messages that are kept for the client."""
        return self.queued_bytes + self.in_flight_bytes

    def drop_oldest(self) -> None:
        """For want of room: the oldest that waits; without one, the oldest that the client has not acknowledged."""
        if self.queue:
            self.queued_bytes -= _size(self.queue.popleft())
        else:
            self.acknowledged(next(iter(self.in_flight)))
        self.dropped += 1

    def keep_only(self, rights: ClientRights) -> int:
        """What the client may not receive any more goes; returns how many bytes that was."""
        before, kept = self.queued_bytes, [one for one in self.queue if rights.may_receive(one.topic)]
        self.queue = deque(kept)
        self.queued_bytes = sum(map(_size, kept))
        return before - self.queued_bytes

    def again(self) -> None:
        """A new connection: what was not acknowledged is sent again, before all else and in its order."""
        for message in reversed(self.in_flight.values()):
            self.queue.appendleft(Publish(message.topic, message.payload, 1, message.retain, True))
            self.queued_bytes += _size(message)
        self.in_flight.clear()
        self.in_flight_bytes = 0


def _size(message: Publish) -> int:
    return len(message.topic) + len(message.payload) + 64


def _packet_size(message: Publish) -> int:
    """Bytes of the packet that a client of MQTT 5 gets."""
    body = 2 + len(message.topic.encode()) + (2 if message.qos else 0) + 1 + len(message.payload)
    return 1 + len(varint(body)) + body


def matches(filter_: str, topic: str) -> bool:
    """Wildcards at the beginning do not reach topics that begin with "$"."""
    return levels_match(filter_.split("/"), topic.split("/"))


def levels_match(wanted: Sequence[str], levels: Sequence[str]) -> bool:
    """As `matches`, of a filter and a topic that have been split at "/"."""
    if levels[0].startswith("$") and wanted[0] in ("+", "#"):
        return False
    for index, level in enumerate(wanted):
        if level == "#":
            return True
        if index >= len(levels) or (level != "+" and level != levels[index]):
            return False
    return len(wanted) == len(levels)


class Broker:
    """All sessions. The names of `woken` sessions have something new to be sent; the caller empties it."""

    def __init__(self, limits: MqttLimits | None = None) -> None:
        self.limits = limits or MqttLimits()
        self.sessions: dict[str, MqttSession] = {}
        self.retained: dict[str, Publish] = {}
        self.woken: set[str] = set()
        self.wills: list[Publish] = []  # of connections that others have taken over; the caller publishes them
        self._exact: dict[str, dict[str, MqttSession]] = {}  # filter without wildcards -> client -> its session
        self._wild: dict[str, dict[str, MqttSession]] = {}
        self._levels: dict[str, Sequence[str]] = {}  # of each of those
        self._bytes = 0  # of all sessions, queued and in flight
        self._retained_bytes = 0
        self._filters = 0  # of all sessions

    # Sessions

    def connect(
        self, packet: Connect, now: float, rights: ClientRights | None = None
    ) -> tuple[MqttSession, bool] | None:
        """(session, whether it was there); None: there are too many. A session that is connected is taken over. Raises MqttError when it is
        another user's."""
        self.expire(now)
        old = self.sessions.get(packet.client_id)
        if old is not None:
            old.check(rights)
        if old is not None and old.connected and old.will is not None:
            self.wills.append(old.will)
        if old is not None and packet.clean:
            self._remove(old)
            old = None
        if old is None:
            if len(self.sessions) >= self.limits.sessions and not self._make_room():
                return None
            old = self.sessions[packet.client_id] = MqttSession(packet.client_id)
            present = False
        else:
            present = True
            old.again()
            if rights is not None:  # which may be others than when these messages came
                self._bytes -= old.keep_only(rights)
        old.version, old.connected, old.rights = packet.version, True, rights
        old.expiry, old.will = packet.expiry, packet.will
        old.receive_max = min(packet.receive_max, self.limits.in_flight)
        old.most_in_flight = self.limits.in_flight_bytes
        old.max_packet = packet.max_packet
        return old, present

    def _make_room(self) -> bool:
        """The session that waits for its client the longest goes."""
        waiting = [session for session in self.sessions.values() if not session.connected]
        if not waiting:
            return False
        self._remove(min(waiting, key=lambda session: session.expires_at))
        return True

    def closed(self, session: MqttSession, now: float, *, with_will: bool, expiry: int | None = None) -> Publish | None:
        """Take in the end of a session's connection; returns the will that is to be published."""
        session.connected = False
        will, session.will = session.will if with_will else None, None
        if expiry is not None and session.expiry:  # a session that ends with its connection cannot be prolonged
            session.expiry = expiry
        if session.expiry:
            session.expires_at = float("inf") if session.expiry >= _FOREVER else now + session.expiry
        elif self.sessions.get(session.client_id) is session:
            self._remove(session)
        return will

    def expire(self, now: float) -> None:
        """Sessions whose clients have been away for too long go."""
        for session in [s for s in self.sessions.values() if not s.connected and s.expires_at <= now]:
            self._remove(session)

    def _remove(self, session: MqttSession) -> None:
        for filter_ in list(session.filters):
            self.unsubscribe(session, filter_)
        self._bytes -= session.bytes
        session.queue.clear()
        session.in_flight.clear()
        session.queued_bytes = session.in_flight_bytes = 0
        self.sessions.pop(session.client_id, None)

    # Subscriptions

    def subscribe(self, session: MqttSession, wanted: Iterable[Subscription]) -> list[int]:
        """The codes of a SUBACK; retained messages are queued."""
        codes = []
        for one in wanted:
            if one.filter.startswith("$share/"):
                codes.append(codec.NO_SHARED)
            elif not codec.is_filter(one.filter):
                codes.append(codec.BAD_FILTER)
            elif session.rights is not None and not self._allows(session.rights, one.filter):
                codes.append(codec.NOT_AUTHORIZED)
            elif one.filter not in session.filters and not self._has_room(session, one.filter):
                codes.append(codec.QUOTA)
            else:
                new = one.filter not in session.filters
                self._filters += new
                session.filters[one.filter] = one
                self._index(one.filter).setdefault(one.filter, {})[session.client_id] = session
                if one.filter in self._wild:
                    self._levels[one.filter] = one.filter.split("/")
                codes.append(min(one.qos, 1))
                if one.retained == 0 or (one.retained == 1 and new):
                    self._send_retained(session, one)
        return codes

    def _has_room(self, session: MqttSession, filter_: str) -> bool:
        """For a subscription that the session has not."""
        limits, index = self.limits, self._index(filter_)
        if index is self._wild and filter_ not in index and len(index) >= limits.wildcards:
            return False
        return len(session.filters) < limits.filters and self._filters < limits.all_filters

    def _allows(self, rights: ClientRights, filter_: str) -> bool:
        """With wildcards each message is looked at when it goes out."""
        return self._index(filter_) is self._wild or rights.may_receive(filter_)

    def _index(self, filter_: str) -> dict[str, dict[str, MqttSession]]:
        return self._wild if "+" in filter_ or "#" in filter_ else self._exact

    def _send_retained(self, session: MqttSession, one: Subscription) -> None:
        for topic, message in self.retained.items():
            if matches(one.filter, topic) and (session.rights is None or session.rights.may_receive(topic)):
                self._enqueue(session, Publish(topic, message.payload, min(message.qos, one.qos, 1), True))

    def unsubscribe(self, session: MqttSession, filter_: str) -> bool:
        """False: there was no such subscription."""
        if session.filters.pop(filter_, None) is None:
            return False
        self._filters -= 1
        index = self._index(filter_)
        if clients := index.get(filter_):
            clients.pop(session.client_id, None)
            if not clients:
                del index[filter_]
                self._levels.pop(filter_, None)
        return True

    # Messages

    def publish(self, message: Publish, sender: str = "", only: str = "") -> None:
        """To every client with a matching subscription, once each. `sender`: the client that sent it; "": we ourselves. `only`: to no other
        client than that."""
        if message.retain:
            self._retain(message)
        topic, qos = message.topic, message.qos
        best: dict[str, tuple[MqttSession, Subscription]] = {}
        for session, one in self._subscribers(topic):
            client, rights = session.client_id, session.rights
            if (one.no_local and client == sender) or (only and client != only):
                continue
            if rights is not None and not rights.may_receive(topic):
                continue
            if client not in best or best[client][1].qos < one.qos:
                best[client] = session, one
        for session, one in best.values():
            retain = message.retain and one.as_published
            self._enqueue(session, Publish(topic, message.payload, 1 if qos and one.qos else 0, retain))

    def is_heard(self, topic: str) -> bool:
        """A client that is connected has subscribed to it, and gets it."""
        heard = (session for session, _ in self._subscribers(topic))
        return any(one.connected and (one.rights is None or one.rights.may_receive(topic)) for one in heard)

    def hears(self, topic: str) -> bool:
        """Some session, connected or not, has a subscription to the topic."""
        return next(self._subscribers(topic), None) is not None

    def _subscribers(self, topic: str) -> Iterator[tuple[MqttSession, Subscription]]:
        for session in self._exact.get(topic, {}).values():
            yield session, session.filters[topic]
        if self._wild:
            levels = topic.split("/")
            for filter_, sessions in self._wild.items():
                if levels_match(self._levels[filter_], levels):
                    for session in sessions.values():
                        yield session, session.filters[filter_]

    def _retain(self, message: Publish) -> None:
        old = self.retained.pop(message.topic, None)
        if old is not None:
            self._retained_bytes -= _size(old)
        if not message.payload:
            return
        self._retained_bytes += _size(message)
        self.retained[message.topic] = message
        while len(self.retained) > self.limits.retained or self._retained_bytes > self.limits.retained_bytes:
            oldest = self.retained.pop(next(iter(self.retained)))
            self._retained_bytes -= _size(oldest)

    def _enqueue(self, session: MqttSession, message: Publish) -> None:
        size, limits = _size(message), self.limits
        if session.max_packet and _packet_size(message) > session.max_packet:
            session.dropped += 1
            return
        if not session.connected and not message.qos:
            return  # the client is not connected, and QoS 0 promises nothing
        session.queue.append(message)
        session.queued_bytes += size
        self._bytes += size
        while len(session.queue) > limits.queued or session.queued_bytes > limits.queued_bytes:
            self._drop_oldest(session)
        while self._bytes > limits.all_queued_bytes:
            self._drop_oldest(max(self.sessions.values(), key=lambda one: one.bytes), until=limits.all_queued_bytes)
        self.woken.add(session.client_id)

    def _drop_oldest(self, session: MqttSession, *, until: int = -1) -> None:
        """One message, and with `until` more, as long as all sessions have more bytes than that."""
        before = session.bytes
        session.drop_oldest()
        while session.bytes and 0 <= until < self._bytes - before + session.bytes:
            session.drop_oldest()
        self._bytes -= before - session.bytes

    def acknowledged(self, session: MqttSession, packet_id: int) -> None:
        """As MqttSession.acknowledged, of a session of this broker."""
        self._bytes -= session.acknowledged(packet_id)

    def take(self, session: MqttSession) -> Publish | None:
        """The session's next message, out of its queue (MqttSession.take); one of QoS 0 is kept no more, one of QoS 1 until it is acknowledged."""
        message = session.take()
        if message is not None and not message.qos:
            self._bytes -= _size(message)
        return message
