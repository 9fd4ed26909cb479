"""What is tried of the compiled code on another processor: each module is loaded, and computes what Python computes. It prints one line."""

from __future__ import annotations

import hashlib
import platform

import yaml
from kubeedge._fastpath import aead, checksum, dns, keys, libc, mqtt, plane, rsa, signature, zstd


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
assert rsa.cbc(key, nonce[:16], rsa.cbc(key, nonce[:16], data, True), False) == data
question = b"\x03web\0\0\1\0\1"
answers = dns.Answers(4, 4096)
reply = bytes.fromhex("000085800001000100000000") + question + bytes.fromhex("c00c000100010000003c00040a600001")
assert answers.put(bytes.fromhex("000101000001000000000000") + question, reply, (len(reply) - 10,), 0.0, 60.0)
later = answers.find(bytes.fromhex("abcd01000001000000000000") + question.upper(), 7.0, whole=False)
assert (
    later == b"\xab\xcd" + reply[2:12] + question.upper() + reply[12 + len(question) : -7] + bytes((53,)) + reply[-6:]
)
message = mqtt.Publish("a/b", data, 1, packet_id=300)
packets: mqtt.PacketBuffer[bytes] = mqtt.PacketBuffer(4096, 4)
packets.push(mqtt.publish_packet(4, message) + mqtt.puback_packet(4, 301))
assert (packets.next(), packets.next(), packets.next()) == (message, mqtt.Puback(301), None)
assert yaml.safe_load("a: [1, x]") == {"a": [1, "x"]}
print(
    f"{platform.machine()}: {', '.join(module.__name__.rpartition('.')[2] for module in (aead, checksum, dns, keys, libc, mqtt, plane, rsa, signature, zstd))}: right"
)
