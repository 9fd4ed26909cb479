"""Connections that come faster than the loop of Python can take them: what one node, and one tenant, may open in a second. The engine in C, with
virtual time."""

from __future__ import annotations

from kubeedge._fastpath.l4_state import ConnectionState
from kubeedge._fastpath.plane import L4

from tests.reference.l4.segment import ACK, RST, SYN, Segment, decode, encode

PORT = 80
OF_NODE, OF_TENANT, BURST = 200, 1000, 2.0  # in a second, in a second, seconds


def listening(tenant: int, beside: L4 | None = None, pace: tuple[int, int] = (OF_NODE, OF_TENANT)) -> L4:
    end = L4(lambda: 7, number=1, tenant=tenant, beside=beside, pace=pace)  # type: ignore[arg-type]
    end.listen(PORT)  # type: ignore[arg-type]
    return end


def opens(end: L4, node: int, port: int, now: float) -> bool:
    """Whether Python was given the connection; it is ended at once, as a peer that wants to be new each time ends it."""
    end.receive(node, encode(Segment(port, PORT, 1000, 0, 1 << 20, SYN, (), b"")), now)
    (answer,) = [decode(data) for peer, data in end.segments_to_send() if peer == node]
    assert answer.flags == SYN | ACK
    end.receive(node, encode(Segment(port, PORT, 1001, answer.sequence + 1, 1 << 20, ACK, (), b"")), now)
    answers = [decode(data) for peer, data in end.segments_to_send() if peer == node]
    accepted = list(end.accepted)
    end.accepted.clear()
    for key in accepted:
        assert end.connections[key].state is ConnectionState.ESTABLISHED
        end.drop(key)
        end.segments_to_send()
    assert bool(accepted) != any(one.flags & RST for one in answers)
    return bool(accepted)


def flood(end: L4, node: int, count: int, start: float, seconds: float) -> int:
    """How many of them were accepted."""
    return sum(opens(end, node, 1 + n % 60_000, start + seconds * n / count) for n in range(count))


def test_a_node_that_opens_connections_without_end_is_held_to_its_pace() -> None:
    end = listening(1)
    other = listening(2, beside=end)
    accepted = 0
    for second in range(4):
        accepted += flood(end, 9, 5_000, second, 0.5)
        # nobody else notices, of its own tenant or of another
        assert opens(end, 8, 1 + second, second + 0.5) and opens(other, 9, 1 + second, second + 0.5)
    assert 4 * OF_NODE <= accepted <= (BURST + 4) * OF_NODE + 1
    assert end.counters()["refused"] == 20_000 - accepted
    assert end.counters()["connections"] == 0  # what was refused holds nothing
    assert flood(end, 9, 100, 10.0, 1.0) == 100  # and it is let in again when it is quiet


def test_many_nodes_of_a_tenant_are_held_to_the_pace_of_the_tenant() -> None:
    end = listening(1)
    other = listening(2, beside=end)
    accepted = sum(flood(end, node, 400, 0.0, 0.0) for node in range(10, 60))
    assert accepted == BURST * OF_TENANT + 1
    assert not opens(end, 100, 1, 0.0)
    assert all(opens(other, node, 1, 0.0) for node in range(10, 60))
    assert opens(end, 100, 2, 0.1)


def test_without_a_pace_there_is_none() -> None:
    assert flood(listening(1, pace=(0, 0)), 9, 5_000, 0.0, 0.0) == 5_000
