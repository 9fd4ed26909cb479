"""What a bundle says of itself is believed when a trusted key has signed it, and then only where it can be true."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kubeedge.errors import Invalid
from kubeedge.imageupdate import bundle
from kubeedge.imageupdate.bundle import CHUNK, HEAD, Manifest
from kubeedge.imageupdate.driver import _is_signed
from tests.kit.card_images import KEY, contents, machine, manifest, packed, public

DATA = contents(1)
OTHER = Ed25519PrivateKey.from_private_bytes(b"o" * 32)


def read(data: bytes, keys: tuple[bytes, ...] = (public(),)) -> Manifest:
    length, signature = bundle.head(data)
    return bundle.manifest(data[HEAD.size : HEAD.size + length], signature, keys, _is_signed)


def test_a_manifest_is_read_as_it_was_written() -> None:
    found = read(packed(DATA))
    assert found == manifest(DATA) and found.chunks == 4 and found.length(3) == 4096
    layout = found.layout(1000)
    assert (layout.kernel, layout.kernel_sectors, layout.initrd, layout.arguments) == (1016, 98, 1128, 1008)


def test_any_of_the_trusted_keys_will_do_and_no_other() -> None:
    assert read(packed(DATA, key=OTHER), (public(), public(OTHER))) == manifest(DATA)
    for keys in ((), (public(OTHER),), (b"no key",), (b"",)):
        with pytest.raises(Invalid, match="not signed"):
            read(packed(DATA), keys)


@pytest.mark.parametrize("at", [0, 7, 8, 11, 12, 75, HEAD.size, HEAD.size + 40])
def test_a_bit_that_is_wrong_anywhere_before_the_contents_is_found(at: int) -> None:
    data = bytearray(packed(DATA))
    data[at] ^= 1
    with pytest.raises(Invalid):
        read(bytes(data))


@pytest.mark.parametrize("data", [b"", b"KEBUNDL1", b"KEBUNDL1" + b"\xff" * 68, b"KEBUNDL1" + bytes(68)])
def test_what_is_no_bundle_is_refused_before_more_is_read(data: bytes) -> None:
    with pytest.raises(Invalid):
        bundle.head(data)


@pytest.mark.parametrize(
    "change",
    [
        {"board": "x/y"}, {"board": None}, {"version": "a b"}, {"version": "v" * 33}, {"size": 0}, {"size": -1}, {"size": True},
        {"size": 3 << 30}, {"epoch": "1"}, {"epoch": -1}, {"chunks": "00"}, {"chunks": "xy"}, {"chunks": 7}, {"chunks": None},
        {"kernel": 513}, {"kernel": 1 << 40}, {"kernelBytes": 1 << 30}, {"initrdBytes": 0}, {"arguments": len(DATA)},
    ],
)  # fmt: skip
def test_a_signed_manifest_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    text = json.dumps({**json.loads(manifest(DATA).encode()), **change}).encode()
    signature = KEY.sign(bundle.signed(len(text)) + text)
    with pytest.raises(Invalid):
        bundle.manifest(text, signature, (public(),), _is_signed)


@pytest.mark.parametrize("text", [b"[]", b"{}", b"nothing", b"\xff\xff", b"[" * 100_000])
def test_a_signed_manifest_that_is_none_is_refused(text: bytes) -> None:
    signature = KEY.sign(bundle.signed(len(text)) + text)
    with pytest.raises(Invalid):
        bundle.manifest(text, signature, (public(),), _is_signed)


def test_a_machine_takes_what_is_for_it() -> None:
    size = 4 * CHUNK
    bundle.acceptable(manifest(DATA, 5), "tiny", 5, size)
    with pytest.raises(Invalid, match="older"):
        bundle.acceptable(manifest(DATA, 4), "tiny", 5, size)
    bundle.acceptable(manifest(DATA, 4), "tiny", 5, size, older=True)
    with pytest.raises(Invalid, match="board rpi4"):
        bundle.acceptable(manifest(DATA, 5, "rpi4"), "tiny", 5, size, older=True)
    with pytest.raises(Invalid, match="slot"):
        bundle.acceptable(manifest(DATA, 5), "tiny", 5, len(DATA) - 1)
    assert machine().keys == (public(),)
