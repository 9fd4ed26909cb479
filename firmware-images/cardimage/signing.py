"""The key by which a machine knows its updates: Ed25519, made where there is none, and kept by whoever makes images."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from kubeedge.imageupdate import bundle
from kubeedge.imageupdate.bundle import Manifest

DEFAULT = Path(
    os.environ.get("KUBEEDGE_UPDATE_KEY") or Path.home() / ".local/share/kubeedge/update-key.pem"
)  # losing it is losing updates


class UpdateKey:
    """A private key in a PEM file."""

    def __init__(self, path: Path) -> None:
        """Made where it is not there. Raises ValueError for another kind of key."""
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(pem)
            print(
                f"made the key {path}: machines with an image of today take updates that it signs, and no others; keep it"
            )
        key = load_pem_private_key(path.read_bytes(), None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError(f"{path} is no Ed25519 key: `openssl genpkey -algorithm ed25519` makes one")
        self._key = key

    @property
    def public(self) -> bytes:
        """In DER."""
        return _der(self._key.public_key())

    def sign(self, manifest: Manifest) -> bytes:
        """64 bytes."""
        data = manifest.encode()
        return self._key.sign(bundle.signed(len(data)) + data)


def public(path: Path) -> bytes:
    """Of a PEM file with a public key, in DER. Raises ValueError."""
    key = load_pem_public_key(path.read_bytes())
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError(f"{path} is no Ed25519 key")
    return _der(key)


def _der(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
