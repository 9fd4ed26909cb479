"""Congestion control: NewReno in bytes (RFC 5681, RFC 6582) with CUBIC's decrease (RFC 9438) and RFC 8511's for marks, and a large
initial window (RFC 6928 in spirit).

A link below is a byte stream with its own congestion control; segments are lost only when a queue of the relay or of a link is full. So
one loss an epoch narrows the window, and it never falls below two segments.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.reference.l4.segment import MAX_PAYLOAD

INITIAL_WINDOW = 4 * MAX_PAYLOAD
MINIMUM_WINDOW = 2 * MAX_PAYLOAD
MAXIMUM_WINDOW = 4 * 1024 * 1024


@dataclass(slots=True)
class NewReno:
    window: int = INITIAL_WINDOW
    threshold: int = MAXIMUM_WINDOW

    def on_acked(self, acked: int, *, limited: bool) -> None:
        """`limited`: the window was what held us back; otherwise it does not grow (RFC 7661)."""
        if not limited:
            return
        if self.window < self.threshold:
            self.window += acked
        else:
            self.window += max(1, MAX_PAYLOAD * acked // self.window)
        self.window = min(self.window, MAXIMUM_WINDOW)

    def on_lost(self) -> None:
        """Once an epoch: by duplicate acknowledgements."""
        self.threshold = max(self.window * 7 // 10, MINIMUM_WINDOW)
        self.window = self.threshold

    def on_marked(self) -> None:
        """Once a round trip: a queue on the way grows."""
        self.threshold = max(self.window * 85 // 100, MINIMUM_WINDOW)
        self.window = self.threshold

    def on_timeout(self) -> None:
        self.threshold = max(self.window // 2, MINIMUM_WINDOW)
        self.window = MINIMUM_WINDOW
