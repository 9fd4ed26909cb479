"""Which messages of a broker are copies of one that has come already, by another subscription (MQTT 5.0, 3.3.4). Pure.

Where filters overlap a broker may send a message once for each. As many as have come by the subscription by which the most have come are different
ones, however alike they are; so nothing is lost when a subscription begins or ends, whatever the broker had in its queue then.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence

from kubeedge.kit.dataclasses import dataclass, field

_REMEMBERED = 256  # different messages; copies come one after the other


@dataclass(slots=True)
class _Arrivals:
    """Of messages that are alike. `taken`: the subscriptions by which the last came that was no copy."""

    counts: dict[int, int] = field(default_factory=dict)
    taken: Sequence[int] = ()


class MessageCopies:
    """Of one session with a broker."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, _Arrivals] = OrderedDict()

    def clear(self) -> None:
        """Subscriptions have changed: what came by others says nothing any more."""
        self._known.clear()

    def has(self, topic: str, payload: bytes, subscriptions: Sequence[int], *, again: bool = False) -> bool:
        """It has come already. `subscriptions`: the identifiers that are on it; none: nobody can tell. `again`: the broker repeats it, as it
        has had no acknowledgement: what was no copy then is none now."""
        if not subscriptions:
            return False
        key = hashlib.blake2b(payload + topic.encode(), digest_size=16).digest()
        known = self._known.setdefault(key, _Arrivals())
        self._known.move_to_end(key)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        counts = known.counts
        most = max(counts.values(), default=0)
        if again and any(each in counts for each in subscriptions):
            return not set(subscriptions) & set(known.taken)
        for each in subscriptions:
            counts[each] = counts.get(each, 0) + 1
        if max(counts[each] for each in subscriptions) <= most:
            return True
        known.taken = subscriptions
        return False
