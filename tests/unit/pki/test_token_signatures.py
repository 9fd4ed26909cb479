"""Signatures of tokens, made by a library and verified by an agent's own way, with the keys as an issuer publishes them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from kubeedge.api import service_accounts
from kubeedge.api.names import Object
from kubeedge.api.service_accounts import IssuerKey, TokenParts
from kubeedge.errors import Invalid
from kubeedge.pki.token_signatures import is_signed
from kubeedge_cloud.edgecontroller.token_issuer import keys_of

RSA = rsa.generate_private_key(65537, 2048)
CURVES: dict[str, tuple[str, ec.EllipticCurvePrivateKey, int]] = {
    "ES256": ("P-256", ec.generate_private_key(ec.SECP256R1()), 32),
    "ES384": ("P-384", ec.generate_private_key(ec.SECP384R1()), 48),
    "ES512": ("P-521", ec.generate_private_key(ec.SECP521R1()), 66),
}
HASHES = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
EVERY = sorted(service_accounts.ALGORITHMS)


def text(number: int, size: int) -> str:
    return service_accounts.encoded(number.to_bytes(size, "big")).decode()


def jwk(algorithm: str) -> Object:
    if algorithm.startswith("RS"):
        numbers = RSA.public_key().public_numbers()
        return {
            "kty": "RSA",
            "alg": algorithm,
            "kid": "k",
            "n": text(numbers.n, 256),
            "e": text(numbers.e, 3),
            "use": "sig",
        }
    curve, key, size = CURVES[algorithm]
    point = key.public_key().public_numbers()
    return {"kty": "EC", "alg": algorithm, "kid": "k", "crv": curve, "x": text(point.x, size), "y": text(point.y, size)}


def signed(algorithm: str, claims: Object, *, kid: str = "k") -> TokenParts:
    data = service_accounts.signing_input({"alg": algorithm, "kid": kid}, claims)
    digest = HASHES[algorithm[2:]]
    if algorithm.startswith("RS"):
        signature = RSA.sign(data, padding.PKCS1v15(), digest)
    else:
        _, key, size = CURVES[algorithm]
        signature = b"".join(n.to_bytes(size, "big") for n in decode_dss_signature(key.sign(data, ec.ECDSA(digest))))
    token = b".".join((data, service_accounts.encoded(signature))).decode()
    return service_accounts.parts(token)


def key(algorithm: str) -> IssuerKey:
    (found,) = keys_of([jwk(algorithm)])
    (again,) = service_accounts.decode_keys(service_accounts.encode_keys([found]))
    assert again == found
    return again


@pytest.mark.parametrize("algorithm", EVERY)
def test_a_token_of_the_issuer_is_told_from_others(algorithm: str) -> None:
    for number in range(8):  # numbers with zeros in front and without, in ECDSA
        good = signed(algorithm, {"sub": f"a{number}"})
        assert is_signed(good, key(algorithm))
        other = TokenParts(good.header, good.claims, good.signed + b"x", good.signature)
        assert not is_signed(other, key(algorithm))
        bent = TokenParts(good.header, good.claims, good.signed, good.signature[:-1] + bytes((good.signature[-1] ^ 1,)))
        assert not is_signed(bent, key(algorithm))
        assert not is_signed(TokenParts(good.header, good.claims, good.signed, b""), key(algorithm))


@pytest.mark.parametrize("algorithm", EVERY)
def test_header_and_key_must_be_of_one_algorithm_and_id(algorithm: str) -> None:
    assert not is_signed(signed(algorithm, {}, kid="another"), key(algorithm))
    for other in EVERY:
        good = signed(algorithm, {})
        assert is_signed(good, key(other)) == (other == algorithm)
        claimed = TokenParts({"alg": other, "kid": "k"}, {}, good.signed, good.signature)
        assert is_signed(claimed, key(other)) == (other == algorithm)


def test_no_algorithm_is_none() -> None:
    good = signed("RS256", {})
    for name in ("none", "None", "", "HS256", "PS256", None):
        lied = TokenParts({"alg": name, "kid": "k"}, {}, good.signed, good.signature)
        assert not is_signed(lied, key("RS256"))
        assert not is_signed(lied, IssuerKey("k", "RS256", key("RS256").key))


@pytest.mark.parametrize(
    "change",
    [
        {"kty": "oct"},
        {"alg": "HS256"},
        {"alg": None},
        {"n": "?"},
        {"n": service_accounts.encoded(b"\xff" * 2048).decode()},
        {"e": 3},
        {"kid": None, "alg": "ES256"},
    ],
)
def test_a_key_that_cannot_be_used_is_passed_over(change: Object) -> None:
    assert [k.algorithm for k in keys_of([{**jwk("RS256"), **change}, jwk("ES256")])] == ["ES256"]


def test_a_point_that_is_on_no_curve_is_no_key() -> None:
    assert keys_of([{**jwk("ES256"), "y": jwk("ES256")["x"]}, {**jwk("ES256"), "crv": "P-999"}]) == []


@pytest.mark.parametrize(
    "value", [b"", b"[]", b'{"keys": 1}', b'{"keys": [{}]}', b'{"keys": [{"id": "", "algorithm": "", "key": "?"}]}']
)
def test_a_damaged_row_has_no_keys(value: bytes) -> None:
    with pytest.raises(Invalid):
        service_accounts.decode_keys(value)


def test_not_more_keys_than_an_issuer_can_have() -> None:
    many: list[Any] = [jwk("ES256")] * 100
    assert len(keys_of(many)) == service_accounts.MAX_KEYS
    row = json.dumps({"keys": [{"id": "k", "algorithm": "ES256", "key": ""}] * 100}).encode()
    assert len(service_accounts.decode_keys(row)) == service_accounts.MAX_KEYS


def test_what_is_no_key_signs_nothing() -> None:
    assert not is_signed(signed("ES256", {}), IssuerKey("k", "ES256", b"no key"))
