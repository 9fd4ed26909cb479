"""The event bus on a broker of somebody else's (mosquitto, EMQX, ...), through aiomqtt: for bridges, plugins, users and rights of its own.

The session is one that the broker keeps (MQTT 5): what programs publish with QoS 1 while this node's agent is away comes when it is back, and
nothing is acknowledged before the twins have it on the disk. What we publish is for those who listen now: while the broker is away it is dropped,
and the desired values that a device has not go out again with each connection.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from kubeedge.config.devices import ExternalBrokerConfig
from kubeedge.config.forms import broker
from kubeedge.devices import topics
from kubeedge.devices.eventbus.copies import MessageCopies
from kubeedge.devices.methods import core as methods
from kubeedge.devices.upstream.core import TOPICS
from kubeedge.errors import Invalid, KubeEdgeError
from kubeedge.kit.backoff import Backoff
from kubeedge.kit.dataclasses import dataclass
from kubeedge.kit.tasks import until_one_ends
from kubeedge.mqtt.admission import Handle
from kubeedge.mqtt.codec import Publish
from kubeedge.mqtt.core import matches

log = logging.getLogger("kubeedge.devices")

_AGAIN = Backoff(0.25, 15.0, jitter=0.5)
_EXPIRY = 7 * 86400  # seconds that the broker keeps the session of an agent that is away
_MAX_PACKET = 256 * 1024  # bytes that the broker may send at once
_IN_FLIGHT = 64  # messages that we have not acknowledged, and that the broker has not
_WAITING = 4 * 1024 * 1024  # bytes of ours that a slow broker has not taken, and of its that wait for us
_KEEPALIVE = 30  # seconds
_OURS = 1  # the number of our subscriptions that are not for rules


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where the broker is, and who we are there. Without `ca_file` the system's authorities are what its certificate is verified by."""

    host: str
    port: int
    is_tls: bool = False
    user: str = ""
    password_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


def external_broker(config: ExternalBrokerConfig, node: str, *, messages: bool = False) -> ExternalBroker | None:
    """The broker that the configuration names; None: the agent has its own. `messages`: we take those for the cloud, too."""
    if not config.url:
        return None
    host, port, is_tls = broker(config.url)
    address = BrokerAddress(
        host, port, is_tls, config.user_name, config.password_file, config.ca_file, config.cert_file, config.key_file
    )
    filters = [*topics.filters(node), *methods.FILTERS, *(TOPICS if messages else ())]
    return ExternalBroker(address, f"kubeedge-{node}", filters)


class _ManualClient(aiomqtt.Client):
    """aiomqtt has no way yet to say when a message is acknowledged; the client below it has."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._client.manual_ack_set(True)

        #: packet identifiers of messages that the broker sends again; no more than it may have in flight
        self._again: set[int] = set()
        self.takes_numbers = True  # of subscriptions, which it puts on their messages

    def _on_message(self, client: Any, userdata: Any, message: Any) -> None:
        if message.dup and message.qos:
            self._again.add(message.mid)
        super()._on_message(client, userdata, message)

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any = None) -> None:
        self.takes_numbers = getattr(properties, "SubscriptionIdentifierAvailable", 1) != 0
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def is_again(self, message: aiomqtt.Message) -> bool:
        """The broker has had no acknowledgement of it, and sends it once more."""
        return message.mid in self._again

    def acknowledge(self, message: aiomqtt.Message) -> None:
        self._again.discard(message.mid)
        self._client.ack(message.mid, message.qos)


class _IncomingMessages(asyncio.Queue[aiomqtt.Message]):
    """Bounded in bytes: what comes with QoS 0 is left out when there is no room. Of QoS 1 the broker sends no more than _IN_FLIGHT."""

    def __init__(self, maxsize: int = 0) -> None:
        super().__init__(maxsize)
        self._bytes = 0

    def _put(self, item: aiomqtt.Message) -> None:
        size = _size(item)
        if item.qos or self._bytes + size <= _WAITING:
            self._bytes += size
            super()._put(item)

    def _get(self) -> aiomqtt.Message:
        item: aiomqtt.Message = super()._get()
        self._bytes -= _size(item)
        return item


def _size(message: aiomqtt.Message) -> int:
    return 200 + len(message.payload) if isinstance(message.payload, bytes) else 200


class ExternalBroker:
    """`filters` is what we subscribe to; `client_id` is this node's alone."""

    def __init__(self, address: BrokerAddress, client_id: str, filters: Sequence[str]) -> None:
        self._address = address
        self._client_id = client_id
        self._filters = filters
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._bytes = 0
        self._more = asyncio.Event()
        self._asked = asyncio.Event()  # for topics of rules, which are others than before
        self._of_rules: Sequence[str] = ()
        self._is_attached = False
        self._copies = MessageCopies()
        self._numbers: dict[
            str, int
        ] = {}  # of subscriptions for rules; all others have _OURS together, for no two of them overlap
        self._next_number = itertools.count(_OURS + 1)
        self._is_changing = False  # subscriptions come and go at this moment

    @property
    def is_attached(self) -> bool:
        """The broker is there."""
        return self._is_attached

    async def serve(self, handle: Handle, attached: Callable[[], None]) -> None:
        """Until it is cancelled; a broker that is away is tried for ever. `attached` is called with each connection, when messages can be
        published."""
        failures = 0
        while True:
            begun = asyncio.get_running_loop().time()
            try:
                await self._session(handle, attached)
            except (aiomqtt.MqttError, OSError, KubeEdgeError, ValueError) as exc:
                if asyncio.get_running_loop().time() - begun > _KEEPALIVE:
                    failures = 0
                if not failures:
                    log.warning("broker %s:%d: %s", self._address.host, self._address.port, exc)
                failures += 1
            finally:
                self._is_attached = False
                self._clear()
            await asyncio.sleep(_AGAIN.delay(failures, random.random()))

    def hears(self, topic: str) -> bool:
        """Somebody may have subscribed to the topic: nobody can ask who."""
        return self._is_attached

    def publish(self, topic: str, payload: bytes) -> None:
        """A message of ours; while the broker is away it is dropped."""
        if self._is_attached:
            self._waiting.append((topic, payload))
            self._bytes += len(topic) + len(payload)
            self._more.set()

    def subscribe(self, filters: Sequence[str]) -> None:
        """To topics of rules, too, and no more to those that were named the last time."""
        self._of_rules = filters
        self._asked.set()

    async def _session(self, handle: Handle, attached: Callable[[], None]) -> None:
        password, tls = await asyncio.to_thread(self._files)
        connect = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho has no types there
        connect.SessionExpiryInterval, connect.MaximumPacketSize, connect.ReceiveMaximum = (
            _EXPIRY,
            _MAX_PACKET,
            _IN_FLIGHT,
        )
        client = _ManualClient(
            self._address.host,
            self._address.port,
            identifier=self._client_id,
            username=self._address.user or None,
            password=password,
            tls_context=tls,
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=False,
            properties=connect,
            keepalive=_KEEPALIVE,
            max_inflight_messages=_IN_FLIGHT,
            queue_type=_IncomingMessages,
        )
        client.pending_calls_threshold = _IN_FLIGHT  # fewer are no reason for a warning
        async with client:
            await _subscribed(client, self._filters, _OURS)
            self._asked.set()
            log.info("broker %s:%d: attached", self._address.host, self._address.port)
            self._is_attached = True
            attached()
            acks: asyncio.Queue[tuple[aiomqtt.Message, asyncio.Future[None] | None]] = asyncio.Queue(_IN_FLIGHT)
            await until_one_ends(
                self._take(client, handle, acks), _acknowledge(client, acks), self._send(client), self._ask(client)
            )

    def _files(self) -> tuple[str | None, ssl.SSLContext | None]:
        """Read at each connection: they may have been renewed. Raises OSError, ValueError."""
        a, password, context = self._address, None, None
        if a.password_file is not None:
            password = a.password_file.read_text().strip()
        if a.is_tls:
            context = ssl.create_default_context(cafile=a.ca_file)
            if a.cert_file is not None:
                context.load_cert_chain(a.cert_file, a.key_file)
        return password, context

    async def _ask(self, client: _ManualClient) -> None:
        have: set[str] = set()
        while True:
            await self._asked.wait()
            self._asked.clear()
            wanted = set(self._of_rules) - covered(self._of_rules, self._filters)
            unwanted = (have | set(self._of_rules)) - wanted - set(self._filters)  # also those of an earlier life
            if wanted - have or unwanted:
                self._is_changing = True
                for one in sorted(wanted - have):
                    number = self._numbers.get(one) or next(self._next_number)
                    await _subscribed(client, [one], number)
                    self._numbers[one] = number
                if unwanted:
                    await client.unsubscribe(sorted(unwanted))
                self._numbers = {one: number for one, number in self._numbers.items() if one in wanted}
                self._copies.clear()
                self._is_changing = False
            have = wanted

    def _is_copy(self, client: _ManualClient, message: aiomqtt.Message, payload: bytes) -> bool:
        """It has come by another of our filters already. While these change nobody can tell, and twice is better than never."""
        topic = str(message.topic)
        if self._is_changing or not self._numbers:
            return False
        others = sum(matches(one, topic) for one in self._numbers)
        if others + any(matches(one, topic) for one in self._filters) < 2:
            return False
        numbers = getattr(message.properties, "SubscriptionIdentifier", [])
        return self._copies.has(topic, payload, numbers, again=client.is_again(message))

    async def _take(
        self,
        client: _ManualClient,
        handle: Handle,
        acks: asyncio.Queue[tuple[aiomqtt.Message, asyncio.Future[None] | None]],
    ) -> None:
        async for message in client.messages:
            payload = message.payload if isinstance(message.payload, bytes) else b""
            future = None
            if not self._is_copy(client, message, payload):
                packet = Publish(
                    str(message.topic), payload, message.qos, dup=client.is_again(message), packet_id=message.mid
                )
                future = handle(packet, "")
            if message.qos:
                await acks.put((message, future))

    async def _send(self, client: _ManualClient) -> None:
        """In their order, so many at a time. Raises aiomqtt.MqttError when the broker does not take them."""
        turns = asyncio.Semaphore(_IN_FLIGHT)

        async def one(topic: str, payload: bytes) -> None:
            try:
                await client.publish(topic, payload, qos=1)
            finally:
                turns.release()

        async with asyncio.TaskGroup() as group:
            while True:
                while self._waiting:
                    if self._bytes > _WAITING:
                        raise aiomqtt.MqttError(f"it has not taken {self._bytes} bytes of messages")
                    await turns.acquire()
                    topic, payload = self._waiting.popleft()
                    self._bytes -= len(topic) + len(payload)
                    group.create_task(one(topic, payload), name="eventbus: message")
                self._more.clear()
                await self._more.wait()

    def _clear(self) -> None:
        self._waiting.clear()
        self._bytes = 0


def covers(wide: str, narrow: str) -> bool:
    """Every topic that `narrow` means is one that `wide` means, too."""
    is_open, levels = narrow.endswith("#"), (wide.count("/"), narrow.count("/"))
    return matches(wide, narrow) and (not is_open or (wide.endswith("#") and levels[0] <= levels[1]))


def covered(filters: Sequence[str], others: Sequence[str]) -> set[str]:
    """Those for which there is a wider one: brokers may send a copy of a message for each subscription."""
    return {
        one
        for one in filters
        if any(wide != one and covers(wide, one) for wide in (*filters, *others)) or one in others
    }


async def _subscribed(client: _ManualClient, filters: Sequence[str], number: int) -> None:
    """`number` is on each message that comes by this subscription, if the broker can do that."""
    numbered = None
    if client.takes_numbers:
        numbered = Properties(PacketTypes.SUBSCRIBE)  # type: ignore[no-untyped-call]
        numbered.SubscriptionIdentifier = number
    codes = await client.subscribe([(each, SubscribeOptions(qos=1)) for each in filters], properties=numbered)
    if any((code if isinstance(code, int) else code.value) >= 0x80 for code in codes):
        raise Invalid("it refuses subscriptions of this user")


async def _acknowledge(
    client: _ManualClient, acks: asyncio.Queue[tuple[aiomqtt.Message, asyncio.Future[None] | None]]
) -> None:
    """In the order of arrival, each when it is durable. Raises aiomqtt.MqttError for one that is not: the broker has to send it again."""
    while True:
        message, future = await acks.get()
        if future is not None:
            await asyncio.wait((future,))
            if future.cancelled():
                raise aiomqtt.MqttError("a message of its is not on the disk")
        client.acknowledge(message)
