"""The Python decoders that untrusted bytes reach, as fuzz targets: each may refuse with PeerError, and raise nothing else.

python -m tests.fuzz.decoders NAME [libFuzzer options] [corpus directories]     (needs atheris; `make fuzz` runs all of them)
python -m tests.fuzz.decoders --seed                                            makes the first inputs of each corpus anew
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from kubeedge.api.names import Revision
from kubeedge.errors import PeerError
from kubeedge.hub.core import MAX_MESSAGE, SYNC_DOWN, ChannelSession
from kubeedge.sync import codec, delta
from kubeedge.sync.core import Lsr, Sink
from tests.fuzz import mqtt

CORPUS = Path(__file__).parent / "corpus"
BASE = b'{"metadata":{"name":"a"},"spec":{"containers":[{"image":"busybox","name":"c"}]}}' * 4


def sync(data: bytes) -> None:
    """What can be decoded can be encoded, and means the same."""
    try:
        message = codec.decode(data)
    except PeerError:
        return
    rich = data[0] not in (3,)
    assert codec.decode(codec.encode(message, rich=rich)) == message


def patch(data: bytes) -> None:
    try:
        made = delta.apply(BASE, data)
    except PeerError:
        return
    assert len(made) <= codec.MAX_VALUE


def conversation(data: bytes) -> None:
    """A sink hears several messages: each with two bytes of length before it."""
    sink = Sink(Lsr("them", Revision(3)))
    sink.fetch(bytes(delta.CONTENT))
    try:
        for one in _pieces(data):
            action = sink.receive(codec.decode(one))
            if hasattr(action, "spans"):
                sink.wanted(range(len(action.spans)))
    except PeerError:
        pass


def hub(data: bytes) -> None:
    """A session hears several messages, as above."""
    session = ChannelSession({})
    session.open(0.0)
    try:
        for at, one in enumerate(_pieces(data)):
            session.receive(one, float(at))
            session.handle_timer(float(at))
            assert all(0 < len(message) <= MAX_MESSAGE for message in session.messages_to_send())
    except PeerError:
        pass


DECODERS: dict[str, Callable[[bytes], None]] = {
    "sync": sync,
    "patch": patch,
    "conversation": conversation,
    "hub": hub,
    "mqtt-clients": mqtt.clients,
    "mqtt-brokers": mqtt.brokers,
}


def _pieces(data: bytes) -> Iterator[bytes]:
    while len(data) >= 2:
        length = int.from_bytes(data[:2], "big")
        yield data[2 : 2 + length]
        data = data[2 + length :]


def joined(*messages: bytes) -> bytes:
    return b"".join(len(message).to_bytes(2, "big") + message for message in messages)


def mutations(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Damaged variants of an input, the same ones every time."""
    rng = random.Random(seed)
    for _ in range(count):
        out = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 5))):
            at = rng.randrange(len(out) + 1)
            match rng.randrange(5):
                case 0:
                    out[at : at + 1] = bytes((rng.randrange(256),))
                case 1:
                    del out[at : at + rng.choice((1, 4, 100))]
                case 2:
                    out[at:at] = rng.choice((b"\xff" * 9 + b"\x7f", b"\x80" * 9, bytes(8), rng.randbytes(5)))
                case 3:
                    out[at:at] = out[max(0, at - rng.randrange(40)) : at]
                case _:
                    out[at : at + 1] = bytes(((out[at] if at < len(out) else 0) ^ 1 << rng.randrange(8),))
        yield bytes(out)


def seeds() -> dict[str, list[bytes]]:
    r, digest = Revision, bytes(range(8))
    items = [codec.Item("pods/default/a", b'{"spec":{}}'), codec.Item("nodes/_/edge1", None), codec.Item("e", BASE)]
    change = codec.Patch("pods/default/a", digest, delta.make(BASE, BASE[:50] + b"x" + BASE[51:]) or b"")
    rich = [
        codec.Fetch("them", r(3), bytes(16)),
        codec.Start("them", r(300), True, True),
        codec.Batch(r(301), [*items, change]),
        codec.Ranges([codec.Range("a", digest), codec.Range("pods/default/z", digest)]),
        codec.Want([0, 1, 300]),
        codec.Fill([items[0]]),
        codec.Fill([]),
    ]
    plain = [
        codec.Fetch("", r(0)),
        codec.Start("them", r(3), False),
        codec.Start("them", r(3), True),
        codec.Batch(r(4), items),
        codec.Batch(r(2**62), []),
        codec.End(),
        codec.Ack(r(2**63 - 1)),
    ]
    wire = [codec.encode(m, rich=True) for m in rich] + [codec.encode(m) for m in plain]
    changes = [b"", BASE, BASE * 2, b"x" + BASE, BASE[:100] + BASE[200:], BASE.replace(b"busybox", b"another image:1")]
    hello = b'\x01{"version": 1, "features": ["sync2"]}'
    return {
        **mqtt.seeds(),
        "sync": wire,
        "patch": [p for new in changes if (p := delta.make(BASE, new))]
        + [b"\x00\x00\x00", b"\x01\x01\x06abc", bytes((0, 0, 0x15, 3)) + b"abc", b"\xff" * 9 + b"\x7f\x00\x00", b"\x80" * 12],
        "conversation": [
            joined(*(codec.encode(m, rich=True) for m in scenario))
            for scenario in (
                [plain[1], codec.Batch(r(3), items), codec.Batch(r(4), [change]), codec.Batch(r(9999), [])],
                [plain[2], codec.Batch(r(3), items), codec.End(), codec.Batch(r(5), [])],
                [rich[1], rich[3], rich[5], rich[6], codec.End(), codec.Batch(r(301), [])],
                [plain[1], plain[1]],
                [codec.End()],
            )
        ],
        "hub": [
            joined(hello),
            joined(hello, b"\x02ping", b"\x03", b"\x02"),
            joined(hello, bytes((SYNC_DOWN,)) + wire[0], b"\x04bye"),
            *(joined(b"\x01" + text) for text in (b"null", b"[]", b"1", b'""', b"{}", b"[" * 3000, b'{"version":true}', b"\xff\xfe")),
            joined(b'\x01{"version":1,"features":{"a":[null]}}', hello),
            joined(b'\x01{"version":1e999}'),
            joined(b"", b"\x63"),
        ],
    }  # fmt: skip


def main() -> int:
    if sys.argv[1:] == ["--seed"]:
        for name, inputs in seeds().items():
            (CORPUS / name).mkdir(parents=True, exist_ok=True)
            for n, data in enumerate(inputs):
                (CORPUS / name / f"seed-{n:02}").write_bytes(data)
        return 0
    import atheris

    target = DECODERS[sys.argv.pop(1)]
    atheris.instrument_all()
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
