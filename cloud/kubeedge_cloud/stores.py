"""The store of a cloud process: a SQLite file of its own, or an etcd that several processes share."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from kubeedge.api.names import TenantId
from kubeedge.config.cloud import CloudConfig
from kubeedge.errors import Invalid, Unavailable
from kubeedge.store import sealing_keys
from kubeedge.store.model import Store
from kubeedge.store.sqlite import open_sqlite
from kubeedge.store.sqlite_file import SqliteSettings


@runtime_checkable
class SharedStore(Store, Protocol):
    """A store that several processes have: it may be restored while they run, and its history has one size for all tenants."""

    rewound: str  # why its history is not the one that this process has read, in words; "": it is
    on_rewound: Callable[[], None] | None  # called once, when `rewound` has been set

    def pressure(self, tenant: TenantId) -> float:
        """Seconds for which the history has no room for more of the tenant; 0.0: it has."""


async def open_store(config: CloudConfig) -> Store:
    """Raises Invalid for settings that do not go together, Unavailable when a package or every member of etcd is missing."""
    etcd = config.store.etcd
    if not etcd.endpoints:
        keyring = sealing_keys.keyring(config.secrets_encryption, os.environ, required=True)
        return await open_sqlite(config.paths.state / "cloud.db", settings=SqliteSettings(keyring=keyring))
    if config.secrets_encryption.enable:
        raise Invalid(
            "secretsEncryption is for the SQLite store; with etcd encrypt the disks of its members",
            path="secretsEncryption",
        )
    try:
        # imported here: a cloud on SQLite does without grpc
        from kubeedge_cloud.etcd.members import EtcdSettings
        from kubeedge_cloud.etcd.store import open_etcd
    except ModuleNotFoundError as exc:
        raise Unavailable(f"a store in etcd needs the package {exc.name}: pip install kubeedge-cloud[etcd]") from exc
    shared: SharedStore = await open_etcd(
        EtcdSettings(
            endpoints=etcd.endpoints,
            ca=etcd.ca,
            cert=etcd.cert,
            key=etcd.key,
            namespace=etcd.namespace,
            keep_revisions=etcd.keep_revisions,
        )
    )
    return shared
