"""Certificates and keys of tenants that are made to hold the loop of all tenants: each is refused before OpenSSL reads it."""

from __future__ import annotations

import base64
import datetime
import time
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from kubeedge.api.names import Object
from kubeedge_cloud.gateway.certificates import context_of

PEM, PLAIN = serialization.Encoding.PEM, serialization.NoEncryption()
E = 65537
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def rsa_key(first: int, second: int) -> rsa.RSAPrivateKey:
    """Of two primes of Mersenne, 2**first - 1 and 2**second - 1: looking for others takes long."""
    p, q = 2**first - 1, 2**second - 1
    d = pow(E, -1, (p - 1) * (q - 1))
    numbers = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), rsa.RSAPublicNumbers(E, p * q))
    return numbers.private_key(unsafe_skip_rsa_key_validation=True)


def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def certificate(key: Key) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "shop.example")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(5).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    return builder.sign(key, hashes.SHA256()).public_bytes(PEM)


def pem(key: Key) -> bytes:
    return key.private_bytes(PEM, serialization.PrivateFormat.TraditionalOpenSSL, PLAIN)


def secret(chain: bytes, key: bytes) -> Object:
    return {"data": {"tls.crt": base64.b64encode(chain).decode(), "tls.key": base64.b64encode(key).decode()}}


def der(kind: int, content: bytes) -> bytes:
    size = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes([kind]) + (size if len(content) < 128 else bytes([0x80 | len(size)]) + size) + content


def number(value: int) -> bytes:
    return der(2, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def armoured(kind: str, content: bytes) -> bytes:
    return f"-----BEGIN {kind}-----\n{base64.encodebytes(content).decode()}-----END {kind}-----\n".encode()


def with_long_exponents(key: rsa.RSAPrivateKey, bits: int) -> bytes:
    """The same key: its private exponents are congruent to what they were, and each signature takes a second."""
    n, more = key.private_numbers(), 1 << bits
    exponents = (n.d + more * (n.p - 1) * (n.q - 1), n.p, n.q, n.dmp1 + more * (n.p - 1), n.dmq1 + more * (n.q - 1))
    parts = (0, n.public_numbers.n, n.public_numbers.e, *exponents, n.iqmp)
    return armoured("RSA PRIVATE KEY", der(0x30, b"".join(map(number, parts))))


def with_a_password(rounds: int) -> bytes:
    """PKCS #8, encrypted with a key that PBKDF2 derives from a password by so many rounds."""

    def oid(*content: int) -> bytes:
        return der(6, bytes(content))

    pkcs5 = (0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x05)
    derivation = der(0x30, oid(*pkcs5, 12) + der(0x30, der(4, bytes(8)) + number(rounds)))
    cipher = der(0x30, oid(0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2A) + der(4, bytes(16)))
    algorithm = der(0x30, oid(*pkcs5, 13) + der(0x30, derivation + cipher))
    return armoured("ENCRYPTED PRIVATE KEY", der(0x30, algorithm + der(4, bytes(160))))


@pytest.mark.parametrize("made", [ec_key, lambda: rsa_key(1279, 2203)])
def test_a_pair_serves(made: Callable[[], Key]) -> None:
    key = made()
    authority = certificate(ec_key())
    context_of(secret(b"in front\n" + certificate(key) + authority, b"Bag Attributes\n" + pem(key)))


def test_an_rsa_key_has_at_most_4096_bits() -> None:
    key = rsa_key(2203, 2281)
    with pytest.raises(ValueError, match="4484 bits; at most 4096 are served"):
        context_of(secret(certificate(key), pem(key)))


def test_private_exponents_are_no_longer_than_the_modulus_may_be() -> None:
    key = rsa_key(1279, 2203)
    with pytest.raises(ValueError, match="more than 4096 bits"):
        context_of(secret(certificate(key), with_long_exponents(key, 200_000)))


def test_no_password_is_tried() -> None:
    """PBKDF2 with as many rounds as its number holds takes half an hour."""
    began = time.process_time()
    with pytest.raises(ValueError, match="are not a PEM certificate and its key"):
        context_of(secret(certificate(ec_key()), with_a_password(2**31 - 1)))
    assert time.process_time() - began < 60


def test_what_openssl_would_read_first_is_not_passed_over() -> None:
    """A key in tls.crt, and a certificate of a form that we do not look at."""
    good, bad = ec_key(), rsa_key(2203, 2281)
    trusted = certificate(bad).replace(b"CERTIFICATE", b"TRUSTED CERTIFICATE")
    context_of(secret(trusted + pem(bad) + certificate(good), pem(good)))
    with pytest.raises(ValueError, match="tls.key"):
        context_of(secret(trusted + certificate(good), pem(bad)))


@pytest.mark.parametrize("key", [b"", b"no key", pem(ec_key())])
def test_a_key_is_that_of_the_certificate(key: bytes) -> None:
    with pytest.raises(ValueError, match="are not a PEM certificate and its key"):
        context_of(secret(certificate(ec_key()), key))


def test_a_key_of_another_kind_is_refused() -> None:
    key = ed25519.Ed25519PrivateKey.generate().private_bytes(PEM, serialization.PrivateFormat.PKCS8, PLAIN)
    with pytest.raises(ValueError, match="are not a PEM certificate and its key"):
        context_of(secret(certificate(ec_key()), key))
