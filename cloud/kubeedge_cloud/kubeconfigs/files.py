"""Kubeconfigs in the form that kubectl reads, and the one of each tenant that the cloud process keeps for its administrator.

STATE/kubeconfig-T                 mode 0600, rewritten when it was revoked or nears its end
STATE/pki/admin-T.{crt,key}        its pair
"""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Callable
from pathlib import Path

from cryptography import x509

from kubeedge.api.names import TenantId
from kubeedge.errors import Refused
from kubeedge.pki.files import write_secret
from kubeedge.pki.identity import UserIdentity, parse
from kubeedge_cloud.authority import csr
from kubeedge_cloud.authority.ca import CERTIFICATE_DAYS, Authority
from kubeedge_cloud.kubeconfigs import core
from kubeedge_cloud.kubeconfigs.core import Kubeconfig
from kubeedge_cloud.kubeconfigs.records import KubeconfigRecords

ADMIN = "admin"
_DAY = 24 * 3600.0


class KubeconfigFiles:
    """`server` is the URL of the API."""

    def __init__(
        self, authority: Authority, records: KubeconfigRecords, state: Path, server: str, clock: Callable[[], float]
    ) -> None:
        self._authority = authority
        self._records = records
        self._state = state
        self._server = server
        self._clock = clock

    def path(self, tenant: TenantId) -> Path:
        """Where the administrator's kubeconfig of that tenant is; it need not exist yet."""
        return self._state / f"kubeconfig-{tenant}"

    async def new(self, tenant: TenantId, user: str, ttl: float) -> tuple[Kubeconfig, str]:
        """Its record and its text, which holds a key that is stored nowhere else and is shown once."""
        record = await self._records.create(tenant, user, ttl)
        key = csr.new_key()
        who = UserIdentity(tenant, record.user, record.id)
        certificate = self._authority.issue(key.public_key(), who, client=True, days=ttl / _DAY)
        return record, self._text(tenant, record.user, certificate, csr.key_pem(key))

    async def keep(self, tenant: TenantId) -> str:
        """The administrator's file as it should be; the id of its kubeconfig. What is good stays."""
        cert, key = self._pair(tenant)
        record = await self._current(tenant)
        if record is None or not self._authority.still_fits(cert, key, UserIdentity(tenant, ADMIN, record.id), ()):
            record = await self._records.create(tenant, ADMIN, CERTIFICATE_DAYS * _DAY, file=socket.gethostname())
            self._authority.write_pair(cert, key, UserIdentity(tenant, ADMIN, record.id), client=True)
        text = self._text(tenant, ADMIN, cert.read_bytes(), key.read_bytes())
        write_secret(self.path(tenant), text.encode())
        return record.id

    async def replace(self, tenant: TenantId) -> str:
        """Another kubeconfig into the file; what was in it opens nothing any more. The new id."""
        record = await self._current(tenant)
        if record is not None:
            await self._records.revoke(tenant, record.id)
        return await self.keep(tenant)

    async def _current(self, tenant: TenantId) -> Kubeconfig | None:
        """That of the file; None: there is none that is good."""
        cert, _ = self._pair(tenant)
        try:
            names = x509.load_pem_x509_certificate(cert.read_bytes()).extensions.get_extension_for_class(
                x509.SubjectAlternativeName
            )
            [uri] = names.value.get_values_for_type(x509.UniformResourceIdentifier)
            who = parse(uri)
        except (OSError, ValueError, x509.ExtensionNotFound, Refused):
            return None
        if not isinstance(who, UserIdentity):
            return None
        if not who.kubeconfig:
            await self._records.note_earlier(tenant, who.user)
            return None
        record = await self._records.get(tenant, who.kubeconfig)
        return record if record is not None and core.opens(record.id, record, self._clock()) else None

    def _pair(self, tenant: TenantId) -> tuple[Path, Path]:
        return self._state / "pki" / f"admin-{tenant}.crt", self._state / "pki" / f"admin-{tenant}.key"

    def _text(self, tenant: TenantId, user: str, certificate: bytes, key: bytes) -> str:
        cluster = {"server": self._server, "certificate-authority-data": _base64(self._authority.pem)}
        credentials = {"client-certificate-data": _base64(certificate), "client-key-data": _base64(key)}
        kubeconfig = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": tenant, "cluster": cluster}],
            "users": [{"name": user, "user": credentials}],
            "contexts": [{"name": tenant, "context": {"cluster": tenant, "user": user}}],
            "current-context": tenant,
        }
        return json.dumps(kubeconfig, indent=2)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
