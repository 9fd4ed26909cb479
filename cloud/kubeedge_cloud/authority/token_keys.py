"""The key with which the cloud signs service account tokens of a tenant (ES256, RFC 7518 section 3.4).

It is derived from the key of the authority (HKDF, RFC 5869) and the tenant's name: every process that has the authority has it, there is no
further secret to keep, and a token of one tenant is not valid in another.
"""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from kubeedge.api import service_accounts
from kubeedge.api.names import Object, TenantId

_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256 (SEC 2 section 2.4.2)
_HALF = 32  # bytes of each of the two numbers of a signature
_ES256 = ec.ECDSA(hashes.SHA256())


class TokenKey:
    """Signs and verifies; `id` stands in the header of each token, behind the tenant's name."""

    algorithm = "ES256"

    def __init__(self, authority: ec.EllipticCurvePrivateKey, tenant: TenantId) -> None:
        secret = authority.private_numbers().private_value.to_bytes(48, "big")
        info = b"kubeedge service account tokens\0" + tenant.encode()
        derived = HKDF(hashes.SHA256(), 48, salt=None, info=info).derive(secret)  # 16 bytes more than it has: no bias
        self._key = ec.derive_private_key(int.from_bytes(derived, "big") % (_ORDER - 1) + 1, ec.SECP256R1())
        self._public = self._key.public_key()
        der = self._public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        self.id = f"{tenant}.{service_accounts.encoded(hashlib.sha256(der).digest()[:15]).decode()}"

    def sign(self, data: bytes) -> bytes:
        """64 bytes, as JWS has them."""
        return b"".join(n.to_bytes(_HALF, "big") for n in decode_dss_signature(self._key.sign(data, _ES256)))

    def is_signed(self, signature: bytes, data: bytes) -> bool:
        """Whether the signature is of this key."""
        if len(signature) != 2 * _HALF:
            return False
        r, s = (int.from_bytes(signature[n : n + _HALF], "big") for n in (0, _HALF))
        try:
            self._public.verify(encode_dss_signature(r, s), data, _ES256)
        except (InvalidSignature, ValueError):
            return False
        return True

    def jwk(self) -> Object:
        """The public key, for /openid/v1/jwks (RFC 7517)."""
        numbers = self._public.public_numbers()
        x, y = (service_accounts.encoded(n.to_bytes(_HALF, "big")).decode() for n in (numbers.x, numbers.y))
        return {"kty": "EC", "crv": "P-256", "x": x, "y": y, "use": "sig", "alg": self.algorithm, "kid": self.id}
