"""Keys, requests and certificates that a node makes without a library, read by one."""

from __future__ import annotations

import ipaddress
import ssl
import subprocess
import sys

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import example, given
from hypothesis import strategies as st
from kubeedge._fastpath import keys

from kubeedge.metaserver import credentials
from kubeedge.pki import asn1, csr, der, trust

KEY = csr.new_key()
ORACLE = serialization.load_pem_private_key(csr.key_pem(KEY), None)
PKCS8, SEC1 = serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL


def written(key, how: serialization.PrivateFormat = PKCS8, password: bytes = b"") -> bytes:
    how_secret = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, how, how_secret)


def test_a_key_is_on_p256_and_of_its_own():
    assert isinstance(ORACLE.curve, ec.SECP256R1)
    assert KEY != csr.new_key()
    assert KEY.public() == ORACLE.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def test_its_text_is_what_the_library_writes():
    assert csr.key_pem(KEY) == written(ORACLE)


@pytest.mark.parametrize("how", [PKCS8, SEC1])
@pytest.mark.parametrize("curve", [ec.SECP256R1, ec.SECP384R1, ec.SECP521R1])
def test_keys_of_others_are_read_and_sign(how, curve):
    made = ec.generate_private_key(curve())
    key = csr.load_key(b"some words\n" + written(made, how))
    made.public_key().verify(csr.sign(key, b"data"), b"data", ec.ECDSA(hashes.SHA256()))
    assert csr.key_pem(key) == written(made)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"garbage",
        b"-----BEGIN PRIVATE KEY-----\nMII=\n-----END PRIVATE KEY-----",
        b"-----BEGIN PRIVATE KEY-----\nA\n-----END PRIVATE KEY-----",
        csr.key_pem(KEY)[:100],
        written(rsa.generate_private_key(public_exponent=65537, key_size=2048)),
        written(ed25519.Ed25519PrivateKey.generate()),
        written(ORACLE, password=b"secret"),
        written(ORACLE, SEC1, b"secret"),
    ],
    ids=["empty", "garbage", "short", "not base64", "cut", "rsa", "ed25519", "encrypted", "encrypted, old"],
)
def test_anything_else_is_no_key_and_leaves_no_error_for_ssl(text):
    with pytest.raises(ValueError):
        csr.load_key(text)
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # it would raise what libcrypto's queue still has


@given(st.integers(0, len(KEY.der) - 1), st.binary(max_size=3))
def test_a_damaged_key_is_refused_or_is_a_key(position, garbage):
    damaged = KEY.der[:position] + garbage + KEY.der[position + 1 :]
    try:
        key = csr.load_key(csr.pem("PRIVATE KEY", damaged))
    except ValueError:
        return
    assert csr.sign(key, b"x")


@pytest.mark.filterwarnings("ignore:Attribute's length")  # the library counts bytes, RFC 5280 characters
@given(st.text(min_size=1, max_size=100))
@example("x" * 65)
@example("ü" * 64)
def test_a_request_is_what_an_authority_reads(name):
    request = x509.load_pem_x509_csr(csr.request_pem(KEY, name))
    assert request.is_signature_valid and request.public_key() == ORACLE.public_key()
    assert [attribute.value for attribute in request.subject] == [name[:64]]
    assert not list(request.extensions)


def test_the_repr_of_a_key_does_not_show_it():
    assert KEY.der.hex() not in repr(KEY) and repr(KEY.der) not in repr(KEY)


def test_a_certificate_for_itself_names_its_hosts_and_belongs_to_its_key(tmp_path):
    credentials.write_pair(tmp_path, "edge1", ["10.1.2.3", "fd00::1", "edge.example"])
    pem = (tmp_path / "server.crt").read_bytes()
    made = x509.load_pem_x509_certificate(pem)
    made.verify_directly_issued_by(made)
    assert made.subject.rfc4514_string() == "CN=edge API of edge1"
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "edge1", "edge.example"]
    addresses = ["127.0.0.1", "::1", "10.1.2.3", "fd00::1"]
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address(a) for a in addresses]
    constraints = made.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical and constraints.value == x509.BasicConstraints(ca=True, path_length=0)
    usage = made.extensions.get_extension_for_class(x509.KeyUsage)
    bits = {name for name in ("digital_signature", "key_cert_sign", "crl_sign", "key_agreement", "key_encipherment")
            if getattr(usage.value, name)}  # fmt: skip
    assert usage.critical and bits == {"digital_signature", "key_cert_sign"}
    key_id = made.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert key_id == x509.SubjectKeyIdentifier.from_public_key(made.public_key())
    assert made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value == x509.ExtendedKeyUsage(
        [x509.ExtendedKeyUsageOID.SERVER_AUTH]
    )
    assert (made.not_valid_before_utc.year, made.not_valid_after_utc.year) == (1970, 2099)
    assert trust.fits(tmp_path / "server.crt", tmp_path / "server.key")
    assert (tmp_path / "server.key").stat().st_mode & 0o777 == 0o600
    key = csr.load_key((tmp_path / "server.key").read_bytes())
    assert csr.belongs(key, pem) and not csr.belongs(KEY, pem)
    assert der.public_key(pem) == key.public()


def test_what_is_no_certificate_belongs_to_no_key():
    for text in (
        b"",
        b"garbage",
        csr.request_pem(KEY, "x"),
        csr.pem("CERTIFICATE", b""),
        csr.pem("CERTIFICATE", b"0\x82"),
    ):
        with pytest.raises(ValueError):
            csr.belongs(KEY, text)


@given(st.integers(0, 2**160))
@example(0x7F)
@example(0x80)
def test_integers_are_as_short_as_der_wants_them(number):
    element = asn1.integer(number)
    body = element[2:]
    assert (element[0], element[1], int.from_bytes(body, "big", signed=True)) == (2, len(body), number)
    assert len(body) == 1 or body[0] or body[1] & 0x80


@given(st.sampled_from([0, 1, 127, 128, 255, 256, 65535, 65536]))
def test_lengths_are_as_short_as_der_wants_them(size):
    element = asn1.octet_string(bytes(size))
    content, rest = der._take(element, 0x04)
    assert (len(content), rest) == (size, b"")
    assert len(element) - size == (2 if size < 128 else 3 if size < 256 else 4 if size < 65536 else 5)


def test_object_identifiers_of_several_bytes():
    assert asn1.oid("1.2.840.10045.4.3.2").hex() == "06082a8648ce3d040302"
    assert asn1.oid("2.5.4.3").hex() == "0603550403"


def test_serial_numbers_are_positive_and_differ():
    made = [x509.load_pem_x509_certificate(credentials.self_signed(KEY, "x", ["a"])).serial_number for _ in range(20)]
    assert len(set(made)) == 20 and all(0 < n < 2**160 for n in made)


def test_a_certificate_is_signed_by_its_key():
    made = x509.load_pem_x509_certificate(credentials.self_signed(KEY, "x", ["a"]))
    ORACLE.public_key().verify(made.signature, made.tbs_certificate_bytes, ec.ECDSA(hashes.SHA256()))


def test_no_part_of_the_edge_loads_the_cryptography_library():
    """Not even its commands: it is not installed on a node."""
    code = (
        "import pkgutil, importlib, sys, kubeedge\n"
        "sys.modules['cryptography'] = None\n"
        "for module in pkgutil.walk_packages(kubeedge.__path__, 'kubeedge.'):\n"
        "    if not module.name.endswith(('__main__', '._fastpath.pause')): importlib.import_module(module.name)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("kind", ["ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519", "RSA3072"])
def test_keys_of_pods_are_of_the_kind_that_is_asked_for_and_sign_an_empty_request(kind: str) -> None:
    private, request = keys.request(kind)
    key = serialization.load_der_private_key(private, None)
    asked = x509.load_der_x509_csr(request)
    assert asked.is_signature_valid and list(asked.subject) == [] and list(asked.extensions) == []
    assert asked.public_key() == key.public_key()
    if isinstance(key, rsa.RSAPrivateKey):
        assert kind == f"RSA{key.key_size}"
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        assert kind == f"ECDSAP{key.curve.key_size}"
    else:
        assert isinstance(key, ed25519.Ed25519PrivateKey) and kind == "ED25519"


def test_a_key_that_takes_long_can_be_given_up() -> None:
    with pytest.raises(InterruptedError):
        keys.request("RSA4096", bytearray(b"\1"))
    keys.request("ED25519", bytearray(b"\1"))  # is made at once
    for stop in (bytearray(), bytearray(2)):
        with pytest.raises(ValueError, match="one byte"):
            keys.request("RSA4096", stop)


@pytest.mark.parametrize("kind", ["", "RSA1024", "DSA"])
def test_there_are_no_other_kinds_of_keys(kind: str) -> None:
    with pytest.raises(ValueError, match="no kind of key"):
        keys.request(kind)
