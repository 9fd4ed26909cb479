"""Kept answers of the DNS server, and the thread that sends them. Products use kubeedge.mesh.dns.server."""

from collections.abc import Sequence

from kubeedge.kit.ip import IpNetwork

class Answers:
    """Finished answers by question: by its name in small letters, its type, and whether it has EDNS. Bounded in number and bytes; what was used
    least lately goes first. Times are seconds of the monotonic clock. Threads may share it."""

    def __init__(self, entries: int, most: int) -> None:
        """`most`: bytes of all questions and answers together; one has an eighth of it at most."""

    def put(self, query: bytes, answer: bytes, lifetimes: Sequence[int], now: float, until: float) -> bool:
        """`lifetimes`: where the TTLs are that run on. False, and nothing is kept for the question: it is no plain query, too large, or over
        already."""

    def find(self, query: bytes, now: float, *, whole: bool) -> bytes | None:
        """With the client's ID, flags and spelling, and lifetimes that have run on. Unless `whole`, what is longer than the client takes over
        UDP is truncated."""

    def clear(self) -> None:
        """Forgets all answers."""

    def __len__(self) -> int: ...
    @property
    def size(self) -> int:
        """Bytes of all questions and answers that are kept."""

    @property
    def hits(self) -> int:
        """Answers that were found."""

class Responder:
    """A thread that answers what is kept in either table, for clients in `networks`, and queues the rest."""

    def __init__(self, fd: int, first: Answers, second: Answers, networks: Sequence[IpNetwork], rate: int = 0) -> None:
        """`fd`: a bound UDP socket, blocking. `rate`: queries of one client a second, twice as many at once, below 1,000,000; 0: any number. Raises
        OSError."""

    def close(self) -> None:
        """Ends the thread, which the socket does not outlive as one to read from. What is queued is forgotten."""

    def fileno(self) -> int:
        """A descriptor that is readable while something is queued."""

    def take(self, most: int) -> list[tuple[bytes, tuple[str, int] | tuple[str, int, int, int]]]:
        """Up to that many queued queries, each with its client's socket address."""

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Queries of those who may ask, those that were answered here, queries of those who may not, and queries that found the queue full or were too many."""
