"""XAES-256-GCM against the vectors of its specification (c2sp.org/XAES-256-GCM), and what is not authentic."""

from __future__ import annotations

import hashlib
import os

import pytest
from kubeedge._fastpath import aead

NONCE = b"ABCDEFGHIJKLMNOPQRSTUVWX"
TEXT = b"XAES-256-GCM"


@pytest.mark.parametrize(
    ("key", "ad", "sealed"),
    [
        (b"\x01" * 32, b"", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"),
        (b"\x03" * 32, b"c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"),
    ],
)  # one for each branch of the doubling
def test_the_vectors_of_the_specification(key: bytes, ad: bytes, sealed: str) -> None:
    assert aead.encrypt(key, NONCE, TEXT, ad).hex() == sealed
    assert aead.decrypt(key, NONCE, bytes.fromhex(sealed), ad) == TEXT


def test_ten_thousand_random_inputs_as_in_the_specification() -> None:
    source = hashlib.shake_128(b"").digest(10_000 * (32 + 24 + 2 + 2 * 255))
    position = 0
    sealed = hashlib.shake_128()

    def take(count: int) -> bytes:
        nonlocal position
        position += count
        return source[position - count : position]

    for _ in range(10_000):
        key, nonce = take(32), take(24)
        text = take(take(1)[0])
        ad = take(take(1)[0])
        one = aead.encrypt(key, nonce, text, ad)
        assert aead.decrypt(key, nonce, one, ad) == text
        sealed.update(one)
    assert sealed.hexdigest(32) == "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939"


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 1536 * 1024])
def test_a_bit_anywhere_is_noticed(size: int) -> None:
    key, text = os.urandom(32), os.urandom(size)
    sealed = aead.encrypt(key, NONCE, text, b"ad")
    assert len(sealed) == size + aead.TAG_SIZE and aead.decrypt(key, NONCE, sealed, b"ad") == text
    for position in {0, size // 2, size, len(sealed) - 1}:
        wrong = bytearray(sealed)
        wrong[position] ^= 0x40
        with pytest.raises(ValueError, match="not authentic"):
            aead.decrypt(key, NONCE, bytes(wrong), b"ad")
    for arguments in (
        (os.urandom(32), NONCE, sealed, b"ad"),
        (key, NONCE[::-1], sealed, b"ad"),
        (key, NONCE, sealed, b"aD"),
        (key, NONCE, sealed[:-1], b"ad"),
        (key, NONCE, b"", b"ad"),
        (key, NONCE, sealed + b"\0", b"ad"),
    ):
        with pytest.raises(ValueError):
            aead.decrypt(*arguments)
    assert (
        aead.decrypt(key, NONCE, sealed, b"ad") == text
    )  # what failed has left nothing behind, in the empty value either
    assert bytes(0) == b""


def test_keys_and_nonces_of_another_size_are_refused() -> None:
    for key, nonce in ((b"k" * 31, NONCE), (b"k" * 33, NONCE), (b"k" * 32, b"n" * 12)):
        with pytest.raises(ValueError, match="32 bytes"):
            aead.encrypt(key, nonce, b"")
        with pytest.raises(ValueError, match="32 bytes"):
            aead.decrypt(key, nonce, b"t" * 16)
