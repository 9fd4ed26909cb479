"""Messages that programs of a node send to the cloud: what travels, in blocks, and what says that it has arrived. Pure.

    /reported/messages/_/NUMBER     some messages, in their order; NUMBER, in 16 digits, is that of the first one
    /desired/messages/_/taken       how far the cloud has the messages of a queue
    /desired/messages/_/topics      which topics are for the cloud besides those that always are

A queue on a node has an id of its own and counts its messages from 1 on, so the two name a message everywhere: what comes twice is known.
Whatever gave way on the node leaves a gap in the numbers.

Lives elsewhere: the queue (kubeedge.devices.upstream); who takes blocks (kubeedge_cloud.messages), who reads them (kubeedge.apiserver.message_log).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kubeedge.api import keys, strict_json
from kubeedge.api.json_bounds import JsonBounds
from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass, field

RESOURCE = "messages"  # below /reported/ and /desired/
BLOCKS = f"{keys.REPORTED}{RESOURCE}/{keys.CLUSTER_SCOPE}/"
ANSWERS = f"{keys.DESIRED}{RESOURCE}/{keys.CLUSTER_SCOPE}/"
TAKEN, TOPICS = "taken", "topics"  # names below ANSWERS

MAX_PAYLOAD = 192 * 1024  # bytes of one message
MAX_TOPIC = 1024  # characters
BLOCK_BYTES = 64 * 1024  # of payloads and topics in one block, unless it is one message
BLOCK_MESSAGES = 256
SILENT = 7 * 86400.0  # seconds after which nothing waits for a reader that does not come
_MAX_FILTERS = 256
_QUEUES = 4  # of a node that the cloud remembers: it has another one after its disk was replaced
_MAX_UID = 64  # characters
_MAX_NUMBER = 10**15
_BOUNDS = JsonBounds(values=6 * BLOCK_MESSAGES + 16)


@dataclass(frozen=True, slots=True)
class NodeMessage:
    """`time`: milliseconds since 1970 when the node took it; 0: it had no clock."""

    number: int
    time: int
    topic: str
    payload: bytes

    @property
    def size(self) -> int:
        """Bytes that count for the bounds of a block."""
        return len(self.payload) + len(self.topic) + 32


@dataclass(frozen=True, slots=True)
class MessageBlock:
    """Some messages of one queue in their order. `position`: in the cloud, the one of the first message among all of the node."""

    queue: str
    messages: Sequence[NodeMessage]
    position: int = 0


def blocks(queue: str, messages: Iterable[NodeMessage]) -> list[MessageBlock]:
    """The messages in blocks, each within the bounds or of one message."""
    found: list[list[NodeMessage]] = []
    size = 0
    for message in messages:
        if not found or size + message.size > BLOCK_BYTES or len(found[-1]) >= BLOCK_MESSAGES:
            found.append([])
            size = 0
        found[-1].append(message)
        size += message.size
    return [MessageBlock(queue, block) for block in found]


def name_of(number: int) -> str:
    """The last element of a block's key: the order of keys is that of numbers."""
    return f"{number:016}"


def encode(block: MessageBlock) -> bytes:
    """A block as a row."""
    messages = [[m.number, m.time, m.topic, *_text(m.payload)] for m in block.messages]
    more = {"position": block.position} if block.position else {}
    return json.dumps({"queue": block.queue, "messages": messages, **more}, separators=(",", ":")).encode()


def _text(payload: bytes) -> list[Any]:
    try:
        return [payload.decode()]
    except UnicodeDecodeError:
        return [base64.b64encode(payload).decode(), 1]


def decode(row: bytes) -> MessageBlock:
    """A block out of a row of a node's. Raises Invalid for what no node of ours writes."""
    value = strict_json.loads(row, what="the block", bounds=_BOUNDS)
    if not isinstance(value, dict):
        raise Invalid("the block is no JSON object")
    queue, messages, position = value.get("queue"), value.get("messages"), value.get("position", 0)
    if not isinstance(queue, str) or not 0 < len(queue) <= _MAX_UID or not queue.isalnum() or not queue.isascii():
        raise Invalid("the block has no queue")
    if not isinstance(messages, list) or not 0 < len(messages) <= BLOCK_MESSAGES or not _is_number(position):
        raise Invalid(f"the block has not 1 to {BLOCK_MESSAGES} messages")
    found = [_message(item) for item in messages]
    if any(one.number >= two.number for one, two in zip(found, found[1:], strict=False)):
        raise Invalid("the numbers of the messages do not grow")
    return MessageBlock(queue, found, position)


def _message(item: Any) -> NodeMessage:
    match item:
        case [int(number), int(time), str(topic), str(text), *encoded] if _is_number(number) and _is_number(time):
            if not number or not topic or len(topic) > MAX_TOPIC or encoded not in ([], [1]):
                raise Invalid(f"message {number} is none")
            try:
                payload = base64.b64decode(text, validate=True) if encoded else text.encode()
            except (binascii.Error, ValueError) as exc:
                raise Invalid(f"message {number} is no base64") from exc
            if len(payload) > MAX_PAYLOAD:
                raise Invalid(f"message {number} has more than {MAX_PAYLOAD} bytes")
            return NodeMessage(number, time, topic, payload)
    raise Invalid("a message is not [number, time, topic, payload]")


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_NUMBER


@dataclass(frozen=True, slots=True)
class Taken:
    """How far the cloud has the messages of a node: queue -> number, the newest queue last. `next`: the position of the next message."""

    queues: Mapping[str, int] = field(default_factory=dict)
    next: int = 1

    def after(self, block: MessageBlock) -> tuple[Taken, MessageBlock, int]:
        """(this with the block, what of it is new, numbers that gave way on the node before it)."""
        known = self.queues.get(block.queue, 0)
        fresh = [message for message in block.messages if message.number > known]
        if not fresh:
            return self, MessageBlock(block.queue, (), self.next), 0
        kept = {queue: number for queue, number in self.queues.items() if queue != block.queue}
        for queue in list(kept)[: max(0, len(kept) - _QUEUES + 1)]:
            del kept[queue]
        new = Taken({**kept, block.queue: fresh[-1].number}, self.next + len(fresh))
        return new, MessageBlock(block.queue, fresh, self.next), fresh[0].number - known - 1


def encode_taken(taken: Taken) -> bytes:
    """What decode_taken reads, as a row."""
    return json.dumps({"queues": dict(taken.queues), "next": taken.next}, separators=(",", ":")).encode()


def decode_taken(row: bytes | None) -> Taken:
    """Of a row of the cloud's; what is damaged is as if nothing had been taken."""
    value = _mapping(row)
    queues, following = value.get("queues"), value.get("next", 1)
    if not isinstance(queues, dict) or not _is_number(following):
        return Taken()
    return Taken({queue: number for queue, number in queues.items() if _is_number(number)}, max(1, following))


def encode_topics(filters: Iterable[str]) -> bytes:
    """The filters of topics that are for the cloud, as a row: in one order, so that the same ones are the same bytes."""
    return json.dumps({"filters": sorted(set(filters))[:_MAX_FILTERS]}, separators=(",", ":")).encode()


def decode_topics(row: bytes | None) -> Sequence[str]:
    """Of a row of the cloud's; what is no text is left out."""
    filters = _mapping(row).get("filters")
    found = filters if isinstance(filters, list) else []
    return [one for one in found[:_MAX_FILTERS] if isinstance(one, str) and 0 < len(one) <= MAX_TOPIC]


@dataclass(frozen=True, slots=True)
class MessageReader:
    """It has all messages up to `through`. `at`: seconds since 1970 when it said so."""

    through: int
    at: float


def decode_reader(row: bytes) -> MessageReader:
    """What is damaged is a reader that has nothing."""
    try:
        value = json.loads(row)
        return MessageReader(int(value["through"]), float(value["at"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return MessageReader(0, 0.0)


def _mapping(row: bytes | None) -> dict[str, Any]:
    try:
        value = json.loads(row) if row else None
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
