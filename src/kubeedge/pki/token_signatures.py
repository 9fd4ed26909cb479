"""Signatures of service account tokens, verified by the public keys of their issuer (RFC 7515, RFC 7518 sections 3.3 and 3.4).

For an agent, which has these keys from its cloud; the cloud itself has a library for that (kubeedge_cloud.authority.token_keys).
"""

from __future__ import annotations

from kubeedge.api.service_accounts import ALGORITHMS, IssuerKey, TokenParts

_HALF = {"ES256": 32, "ES384": 48, "ES512": 66}  # bytes of each of the two numbers of a signature


def is_signed(token: TokenParts, key: IssuerKey) -> bool:
    """Whether it is by that key, of which the header must say the id and the algorithm."""
    if (token.header.get("kid"), token.header.get("alg")) != (key.id, key.algorithm):
        return False
    signature = token.signature
    if half := _HALF.get(key.algorithm):
        if len(signature) != 2 * half:
            return False
        signature = _sequence(_integer(signature[:half]) + _integer(signature[half:]))
    from kubeedge._fastpath import signature as fastpath  # here: who is online does not carry it

    try:
        return fastpath.is_signed(key.key, ALGORITHMS[key.algorithm].encode(), signature, token.signed)
    except ValueError:
        return False


def _integer(number: bytes) -> bytes:
    """An INTEGER in DER, as short as it can be and not negative."""
    shortest = number.lstrip(b"\0") or b"\0"
    if shortest[0] & 0x80:
        shortest = b"\0" + shortest
    return bytes((0x02, len(shortest))) + shortest


def _sequence(content: bytes) -> bytes:
    """A SEQUENCE in DER whose content has fewer than 256 bytes."""
    length = bytes((len(content),)) if len(content) < 0x80 else bytes((0x81, len(content)))
    return b"\x30" + length + content
