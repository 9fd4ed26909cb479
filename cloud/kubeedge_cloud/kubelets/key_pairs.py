"""Keys and serving certificates of nodes on this process's disk: they outlive it, and so does a request that is not approved yet.

DIRECTORY/NODE.ID.pem      key and certificate, once there is one
DIRECTORY/NODE.ID.pending  the next key and the request that was made with it

ID stands for the Node object: a tenant may get another cluster, whose node of that name has nothing of this one.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kubeedge.api.names import NodeName
from kubeedge.errors import Invalid
from kubeedge.kit import private
from kubeedge.pki import der
from kubeedge.pki.files import write_secret
from kubeedge_cloud.authority import csr
from kubeedge_cloud.authority.ca import key_fingerprint
from kubeedge_cloud.kubelets import signing

_PAIR, _PENDING = ".pem", ".pending"
_REQUEST = b"-----BEGIN CERTIFICATE REQUEST-----"


@dataclass(frozen=True, slots=True)
class PendingKey:
    """`request` is PEM; `name` that of its CertificateSigningRequest, the same whenever this is read."""

    key: bytes
    request: bytes
    name: str


class KeyPairs:
    """Of the nodes of one tenant. `hosts`: names and addresses that their certificates are for. All methods raise OSError."""

    def __init__(self, directory: Path, hosts: Sequence[str]) -> None:
        private.directory(directory)
        self._directory = directory
        self._hosts = tuple(hosts)
        self._ids: dict[NodeName, str] = {}

    def know(self, nodes: Mapping[NodeName, str]) -> None:
        """The nodes that the other methods are about, each with the uid of its object."""
        self._ids = {node: _id(uid) for node, uid in nodes.items()}

    def file(self, node: NodeName) -> Path | None:
        """The file with a node's key and certificate; None when it has no certificate yet."""
        path = self._path(node, _PAIR)
        return path if path.exists() else None

    def validity(self, node: NodeName) -> der.Validity | None:
        """The validity of a node's certificate; None when there is none, or it is not for these hosts."""
        try:
            pem = self._path(node, _PAIR).read_bytes()
            return der.validity(pem) if csr.serves(pem, self._hosts) else None
        except (FileNotFoundError, ValueError, Invalid):
            return None

    def pending(self, node: NodeName) -> PendingKey:
        """The one that was begun, or a new one. Raises ValueError for a node whose name is too long for a certificate."""
        path = self._path(node, _PENDING)
        with contextlib.suppress(FileNotFoundError, ValueError):
            key, mark, request = path.read_bytes().partition(_REQUEST)
            if csr.asks_for(mark + request, self._hosts):
                return _pending(node, key, mark + request)
        made = csr.new_key()
        user = signing.user_of_node(node)
        request = csr.serving_request_pem(made, user, [signing.ORGANIZATION], self._hosts)
        write_secret(path, csr.key_pem(made) + request)
        return _pending(node, csr.key_pem(made), request)

    def forget_pending(self, node: NodeName) -> None:
        """The next request is made with another key."""
        self._path(node, _PENDING).unlink(missing_ok=True)

    def take(self, node: NodeName, pending: PendingKey, certificate: bytes) -> None:
        """What was asked for is there. Raises Invalid, and nothing has changed, for a certificate that cannot be used."""
        try:
            if not csr.belongs(csr.load_key(pending.key), certificate):
                raise Invalid("it is for another key")
            if not csr.serves(certificate, self._hosts):
                raise Invalid(f"it is not for {', '.join(self._hosts)}")
            der.validity(certificate)
        except ValueError as exc:
            raise Invalid(f"not a certificate: {exc}") from exc
        write_secret(self._path(node, _PAIR), pending.key + certificate)
        self.forget_pending(node)

    def sweep(self) -> None:
        """Remove the files of nodes that do not exist any more."""
        known = {f"{node}.{id}" for node, id in self._ids.items()}
        for path in self._directory.iterdir():
            if path.suffix in (_PAIR, _PENDING) and path.stem not in known:
                path.unlink(missing_ok=True)

    def _path(self, node: NodeName, suffix: str) -> Path:
        return self._directory / f"{node}.{self._ids.get(node, '')}{suffix}"


def _id(uid: str) -> str:
    """Whatever a cluster gives as a uid, this is a part of a file's name."""
    return hashlib.sha256(uid.encode()).hexdigest()[:12]


def _pending(node: NodeName, key: bytes, request: bytes) -> PendingKey:
    """The key and the request of a node. Raises ValueError when the key is invalid."""
    fingerprint = key_fingerprint(csr.load_key(key).public_key())
    return PendingKey(key, request, f"{node}-serving-{fingerprint[:16]}")
