"""Which messages are for the cloud, and which rows the store is to have for them. Pure.

Of the queue on the disk a window of blocks is in the store, where sync carries rows up: as many as the line needs to be busy, and not
all that waits, since the store keeps a history of each row and the cloud bounds what a node may have there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from kubeedge.api import node_messages
from kubeedge.api.node_messages import MessageBlock, Taken
from kubeedge.api.rules import SERVICES
from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass, field
from kubeedge.mqtt.codec import is_filter
from kubeedge.mqtt.core import levels_match

#: KubeEdge's, whatever the cloud asks for
TOPICS = ("SYS/dis/upload_records", "$hw/events/upload/#", "+/user/#")
WINDOW = 4  # blocks on their way


class CloudTopics:
    """`rules`: filters that rules of the cloud have as their source; `services`: URLs that programs may ask for at the ServiceBus."""

    def __init__(self) -> None:
        self.rules: Sequence[str] = ()
        self._levels = [
            one.split("/") for one in TOPICS
        ]  # of these and of the rules: each message of a client is compared with them
        self.services: frozenset[str] = frozenset()

    def set_rules(self, filters: Iterable[str]) -> None:
        """Those that are no filters are left out, and "$" is the node's own."""
        filters = list(filters)
        self.services = frozenset(one.removeprefix(SERVICES) for one in filters if one.startswith(SERVICES))
        self.rules = [one for one in filters if is_filter(one) and not one.startswith("$")]
        self._levels = [one.split("/") for one in (*TOPICS, *self.rules)]

    def has(self, topic: str) -> bool:
        """A message of this topic is for the cloud."""
        levels = topic.split("/")
        return any(levels_match(one, levels) for one in self._levels)


@dataclass(slots=True)
class SentBlocks:
    """What the store has: name of the row -> queue, number of its last message."""

    rows: dict[str, tuple[str, int]] = field(default_factory=dict)

    def restore(self, name: str, row: bytes) -> None:
        """A row of an earlier life. One that is damaged goes with the next step: the queue has its messages still."""
        try:
            block = node_messages.decode(row)
        except Invalid:
            self.rows[name] = "", 0
            return
        self.rows[name] = block.queue, block.messages[-1].number

    def arrived(self, taken: Taken) -> list[str]:
        """Names of rows that need not be there any more."""
        return [name for name, (queue, last) in self.rows.items() if last <= taken.queues.get(queue, 0)]

    def room(self, queue: str) -> int:
        """Blocks that may be added. What an earlier queue left comes first: numbers of two queues are not compared."""
        others = any(of != queue for of, _ in self.rows.values())
        return 0 if others else max(0, WINDOW - len(self.rows))

    def last(self, queue: str, taken: Taken) -> int:
        """The number after which the next block begins."""
        return max([taken.queues.get(queue, 0), *(last for of, last in self.rows.values() if of == queue)])

    def add(self, blocks: Iterable[MessageBlock]) -> Mapping[str, bytes]:
        """The rows of new blocks, by their names."""
        found = {}
        for block in blocks:
            name = node_messages.name_of(block.messages[0].number)
            self.rows[name] = block.queue, block.messages[-1].number
            found[name] = node_messages.encode(block)
        return found
