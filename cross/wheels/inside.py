"""What is tried of the compiled code on another processor: each module is loaded, and computes what Python computes. It prints one line."""

from __future__ import annotations

import hashlib
import platform

import yaml
from kubeedge._fastpath import aead, checksum, keys, libc, plane, signature, zstd


def ones_sum(data: bytes) -> int:
    """The Internet checksum's sum, as RFC 1071 writes it."""
    total = sum(int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big") for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


data = b"".join(hashlib.sha256(bytes([n])).digest() for n in range(32))
for size in (0, 1, 2, 3, 31, 64, 65, 577, 1023):
    assert checksum.ones_sum(data[:size]) == ones_sum(data[:size]), size
key, nonce = data[: aead.KEY_SIZE], data[-aead.NONCE_SIZE :]
sealed = aead.encrypt(key, nonce, data, b"row")
assert len(sealed) == len(data) + aead.TAG_SIZE and aead.decrypt(key, nonce, sealed, b"row") == data
private = keys.generate()
assert signature.is_signed(keys.public_key(private), b"SHA256", keys.sign(private, data), data)
assert yaml.safe_load("a: [1, x]") == {"a": [1, "x"]}
print(
    f"{platform.machine()}: {', '.join(module.__name__.rpartition('.')[2] for module in (aead, checksum, keys, libc, plane, signature, zstd))}: right"
)
