"""Security policies of OPC-UA's channels: None, and Basic256Sha256 (OPC 10000-7, 6.6.165). Pure but for libcrypto.

The server's certificate is the one that the Device names, by file or by fingerprint: there are no authorities for the certificates of controllers.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Protocol

from kubeedge._fastpath import rsa, signature
from kubeedge.errors import PeerError
from kubeedge.kit.dataclasses import dataclass

NONE = "http://opcfoundation.org/UA/SecurityPolicy#None"
BASIC256SHA256 = "http://opcfoundation.org/UA/SecurityPolicy#Basic256Sha256"
SIGN_ALGORITHM = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
ENCRYPT_ALGORITHM = "http://www.w3.org/2001/04/xmlenc#rsa-oaep"
SIGN, SIGN_AND_ENCRYPT = 2, 3
NONCE = 32  # bytes
_MAC = 32  # bytes of a signature with a symmetric key
_MIN_KEY = 256  # bytes of the smallest RSA key that the policy admits


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate (DER), and its private key (DER)."""

    certificate: bytes
    private: bytes


@dataclass(frozen=True, slots=True)
class ServerKey:
    """A server's certificate (DER), and the public key in it."""

    certificate: bytes
    public: bytes

    @property
    def thumbprint(self) -> bytes:
        """By which the server knows that it is meant: SHA-1, as the protocol has it."""
        return hashlib.sha1(self.certificate, usedforsecurity=False).digest()

    def encrypted(self, data: bytes) -> bytes:
        """For this server alone."""
        return rsa.encrypt(self.public, data)

    def is_by(self, sign: bytes, data: bytes) -> bool:
        """The server has signed that."""
        return signature.is_signed(self.public, b"SHA256", sign, data)


def fingerprint(certificate: bytes) -> str:
    """SHA-256 in hex, as a Device names it."""
    return hashlib.sha256(certificate).hexdigest()


@dataclass(frozen=True, slots=True)
class SymmetricKeys:
    """Of one direction of a channel."""

    sign: bytes
    encrypt: bytes
    vector: bytes

    @staticmethod
    def derived(secret: bytes, seed: bytes) -> SymmetricKeys:
        """By P_SHA256 (RFC 5246, 5)."""
        found, block = b"", seed
        while len(found) < 80:
            block = hmac.digest(secret, block, "sha256")
            found += hmac.digest(secret, block + seed, "sha256")
        return SymmetricKeys(found[:32], found[32:64], found[64:80])


class SealingSuite(Protocol):
    """What protects the chunks of a channel."""

    def sealed(self, head: Callable[[int], bytes], body: bytes) -> bytes:
        """A whole chunk. `head` gives what goes before the body, unencrypted, for a size of the whole."""
        ...

    def opened(self, head: bytes, sealed: bytes) -> bytes:
        """The body. Raises PeerError for what the server has not sealed so."""
        ...


class AsymmetricSuite:
    """What protects the messages that open a channel."""

    def __init__(self, own: KeyPair, server: ServerKey) -> None:
        """Raises ValueError for a key that is none, or smaller than the policy admits."""
        self.own, self.server = own, server
        self._signature = rsa.private_size(own.private)
        self._theirs = rsa.size(server.public)
        if min(self._signature, self._theirs) < _MIN_KEY:
            raise ValueError("RSA keys of less than 2048 bits are not admitted")

    def sealed(self, head: Callable[[int], bytes], body: bytes) -> bytes:
        """For the server, signed by us."""
        step, extra = self._theirs - rsa.OVERHEAD, 2 if self._theirs > 256 else 1
        padding = -(len(body) + extra + self._signature) % step
        size = len(head(0)) + (len(body) + extra + padding + self._signature) // step * self._theirs
        pad = bytes((padding & 0xFF,)) * (padding + 1) + (bytes((padding >> 8,)) if extra == 2 else b"")
        start = head(size)
        plain = body + pad
        return start + self.server.encrypted(plain + rsa.sign(self.own.private, start + plain))

    def opened(self, head: bytes, sealed: bytes) -> bytes:
        """The body. Raises PeerError for what is not by the server, or not for us."""
        try:
            plain = rsa.decrypt(self.own.private, sealed)
        except ValueError as exc:
            raise PeerError("an answer of the server was not encrypted for us") from exc
        if len(plain) < self._theirs or not self.server.is_by(plain[-self._theirs :], head + plain[: -self._theirs]):
            raise PeerError("an answer is not signed by the server's key")
        return _unpadded(plain[: -self._theirs], 2 if self._signature > 256 else 1)


class SymmetricSuite:
    """What protects all other messages, with one token of a channel."""

    def __init__(self, ours: SymmetricKeys, theirs: SymmetricKeys, *, encrypt: bool) -> None:
        self._ours, self._theirs = ours, theirs
        self._encrypt = encrypt

    def sealed(self, head: Callable[[int], bytes], body: bytes) -> bytes:
        """Signed, and encrypted where that was asked for."""
        if not self._encrypt:
            plain = head(len(head(0)) + len(body) + _MAC) + body
            return plain + hmac.digest(self._ours.sign, plain, "sha256")
        padding = -(len(body) + 1 + _MAC) % rsa.BLOCK
        start = head(len(head(0)) + len(body) + 1 + padding + _MAC)
        body += bytes((padding,)) * (padding + 1)
        whole = body + hmac.digest(self._ours.sign, start + body, "sha256")
        return start + rsa.cbc(self._ours.encrypt, self._ours.vector, whole, True)

    def opened(self, head: bytes, sealed: bytes) -> bytes:
        """The body. Raises PeerError for what the server has not sealed so."""
        plain = sealed
        if self._encrypt:
            try:
                plain = rsa.cbc(self._theirs.encrypt, self._theirs.vector, sealed, False)
            except ValueError as exc:
                raise PeerError("an answer of the server has no whole blocks") from exc
        body, mac = plain[:-_MAC], plain[-_MAC:]
        if not hmac.compare_digest(mac, hmac.digest(self._theirs.sign, head + body, "sha256")):
            raise PeerError("an answer is not signed with the channel's key")
        return _unpadded(body, 1) if self._encrypt else body


class NoSuite:
    """Neither signed nor encrypted."""

    def sealed(self, head: Callable[[int], bytes], body: bytes) -> bytes:
        """The head with the size of the whole, and the body as it is."""
        return head(len(head(0)) + len(body)) + body

    def opened(self, head: bytes, sealed: bytes) -> bytes:
        """What was received, as it is."""
        return sealed


def _unpadded(body: bytes, extra: int) -> bytes:
    """It was signed: the server's padding is what it says."""
    if len(body) < extra:
        raise PeerError("an answer has no padding")
    padding = body[-1] if extra == 1 else body[-1] << 8 | body[-2]
    if padding + extra > len(body):
        raise PeerError("an answer has more padding than bytes")
    return body[: len(body) - padding - extra]
