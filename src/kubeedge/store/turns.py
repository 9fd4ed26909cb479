"""Which transactions share the next commit: owners take turns, and a commit has only so many bytes. Pure.

A commit is durable for all who share it, and they wait for the bytes of all. In the order of their coming one tenant's 64 objects of 3 MB
would be before another's one of 300 bytes; here each has a place in every commit, and a commit ends after BYTES.

Who waits for an answer before it asks again sees its own order kept; transactions of one owner stay in order in any case. A barrier is served
after all that came before it, and before all that comes after it: all owners wait for it, so it is for what is rare.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

TRANSACTIONS = 256  # that share one commit at most
BYTES = 1024 * 1024  # of their values, unless one alone has more
ALONE = 1 << 62  # as a size: it shares a transaction with no other

T = TypeVar("T")
_Owners = OrderedDict[str, deque[tuple[T, int]]]


class WriterTurns(Generic[T]):
    """What waits for the writer."""

    def __init__(self) -> None:
        self._ahead: deque[T | _Owners[T]] = deque(
            [OrderedDict()]
        )  # owners with what they wait for, and the barriers between
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[T]:
        for ahead in self._ahead:
            if isinstance(ahead, OrderedDict):
                yield from (item for waiting in ahead.values() for item, _ in waiting)
            else:
                yield ahead

    def add(self, item: T, owner: str, size: int) -> None:
        """Add a transaction of an owner; `size` is the number of bytes of its values."""
        last = self._ahead[-1]
        assert isinstance(last, OrderedDict)
        last.setdefault(owner, deque()).append((item, size))
        self._count += 1

    def add_barrier(self, item: T) -> None:
        """Add an item that is served alone, after all that are ahead of it."""
        self._ahead.append(item)
        self._ahead.append(OrderedDict())
        self._count += 1

    def take(self) -> Sequence[T]:
        """What comes next: transactions for one commit, or one barrier; nothing when nothing waits."""
        first = self._ahead[0]
        if isinstance(first, OrderedDict) and not first and len(self._ahead) > 1:
            self._ahead.popleft()
            first = self._ahead[0]
        if not isinstance(first, OrderedDict):
            self._ahead.popleft()
            self._count -= 1
            return [first]
        taken: list[T] = []
        size = 0
        while first and len(taken) < TRANSACTIONS and size < BYTES:
            owner, waiting = first.popitem(last=False)
            if taken and size + waiting[0][1] > BYTES:
                first[owner] = waiting
                first.move_to_end(owner, last=False)  # it is the first of the next commit
                break
            item, more = waiting.popleft()
            taken.append(item)
            size += more
            if waiting:
                first[owner] = waiting  # at the end
        self._count -= len(taken)
        return taken
