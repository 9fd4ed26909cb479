"""TLS contexts of one tenant's kubelet ports: a node that has a certificate of its own shows that, the others what all show."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

from kubeedge.api.names import NodeName
from kubeedge.pki import trust
from kubeedge_cloud.certificates.filecertificate.module import FileCertificate
from kubeedge_cloud.certificates.module import ServerCertificate

_MOST = 256  # contexts of nodes that are kept: each has its own copy of the authorities


class PortTls:
    """Makes contexts that demand a client's certificate. `client_ca`: a file, of the authority that counts for all tenants, besides those of
    their clusters; None: there is none. `certificate`: what all ports show that have none of their own."""

    def __init__(self, client_ca: Path | None, certificate: ServerCertificate | FileCertificate) -> None:
        self._client_ca = client_ca
        self._certificate = certificate

    def context(self, authorities: str, pair: Path | None = None) -> ssl.SSLContext | None:
        """For clients of these authorities (PEM) and of `client_ca`; None: there is neither. `pair`: key and certificate in one file. Raises
        OSError."""
        if not authorities and self._client_ca is None:
            return None
        if pair is not None:
            made = trust.server_context(pair, pair, client_ca=self._client_ca, minimum=ssl.TLSVersion.TLSv1_2)
        else:
            made = self._certificate.context_for(self._client_ca, minimum=ssl.TLSVersion.TLSv1_2)
        if authorities:
            made.load_verify_locations(cadata=authorities)
        return made


class PortContexts:
    """`make` gives a context that shows the pair in that file, None: what all show. `file_of`: key and certificate of a node, None: it has none."""

    def __init__(
        self, make: Callable[[Path | None], ssl.SSLContext], file_of: Callable[[NodeName], Path | None]
    ) -> None:
        self._make = make
        self._file_of = file_of
        self._common = make(None)
        self._own: dict[NodeName, ssl.SSLContext] = {}

    def of(self, node: NodeName) -> ssl.SSLContext:
        """For the next connection. Raises OSError for a pair that cannot be used."""
        found = self._own.pop(node, None)
        if found is None:
            path = self._file_of(node)
            if path is None:
                return self._common
            found = self._make(path)
            if len(self._own) >= _MOST:
                del self._own[next(iter(self._own))]  # that was used least lately
        self._own[node] = found
        return found

    def forget(self, node: NodeName) -> None:
        """Forget the context of a node whose certificate has changed or is gone."""
        self._own.pop(node, None)
