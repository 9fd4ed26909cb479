"""Certificates of tenants with their keys, for TLS contexts. Keys are in memory alone.

Each handshake signs with the key of a tenant, on the loop that all tenants share: a key whose signatures take long is refused.
"""

from __future__ import annotations

import os
import ssl

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

_RSA_BITS = 4096  # of each number of an RSA key: a signature takes some 4 ms then, and 200 ms where they have 15,360
_UNFIT = "tls.crt and tls.key are not a PEM certificate and its key"


def present(context: ssl.SSLContext, chain: bytes, key: bytes) -> None:
    """The context shows this certificate with its chain. Raises ValueError, which says what is wrong with these texts of PEM."""
    chain, key = _cheap(chain, key)
    descriptor = os.memfd_create(
        "certificate", os.MFD_CLOEXEC
    )  # OpenSSL reads files, and a key has no business on a disk
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(chain + b"\n" + key)
        # there is no password; one that is asked for at the terminal would hold the whole process
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=lambda: b"")
    except (ssl.SSLError, OSError) as exc:
        raise ValueError(_UNFIT) from exc
    finally:
        os.close(descriptor)


class _Costly(ValueError):
    pass


def _cheap(chain: bytes, key: bytes) -> tuple[bytes, bytes]:
    """The same certificates and the same key, written anew, so that OpenSSL reads what was looked at here. Raises ValueError."""
    try:
        certificates = x509.load_pem_x509_certificates(chain)
        public = certificates[0].public_key()
        if isinstance(public, rsa.RSAPublicKey):
            bits = max(public.key_size, public.public_numbers().e.bit_length())
            if bits > _RSA_BITS:
                raise _Costly(f"tls.crt has an RSA key of {bits} bits; at most {_RSA_BITS} are served")
        # without a password, whose derivation may take hours, and without a look for primes, which takes longer than a handshake
        private = serialization.load_pem_private_key(key, None, unsafe_skip_rsa_key_validation=True)
        if isinstance(private, rsa.RSAPrivateKey):
            n = private.private_numbers()
            if max(one.bit_length() for one in (n.d, n.p, n.q, n.dmp1, n.dmq1, n.iqmp)) > _RSA_BITS:
                raise _Costly(f"tls.key has numbers of more than {_RSA_BITS} bits")
        elif not isinstance(private, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey):
            raise _Costly("tls.key is neither an RSA key nor one of an elliptic curve")
        form = serialization.Encoding.PEM
        written = private.private_bytes(form, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return b"".join(one.public_bytes(form) for one in certificates), written
    except _Costly:
        raise
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise ValueError(_UNFIT) from exc
