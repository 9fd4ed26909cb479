"""The certificate authority that the nodes of a store trust: a cloud process with another one cannot serve them.

The hash of the authority's certificate is kept in the store. A store that was restored without the directory pki of its backup, or a process that was
given another one, would otherwise sign on with a new authority: no node could come back, with nothing to explain it.
"""

from __future__ import annotations

from pathlib import Path

from kubeedge.api import keys
from kubeedge.errors import Invalid, with_next
from kubeedge.store.model import Compare, CompareTarget, Put, Store
from kubeedge_cloud.tenants.manager import TenantManager


async def check_directory(store: Store, directory: Path, *, replace: bool = False) -> None:
    """Before an authority is made: whether there is none although the store has nodes. Raises Invalid."""
    if replace or (directory / "ca.key").exists():
        return
    tenants = TenantManager(store)
    nodes = sum([len(await tenants.nodes(tenant)) for tenant in await tenants.names()])
    if nodes or await store.get(keys.AUTHORITY) is not None:
        raise _refusal(f"the certificate authority of this store is not in {directory}", nodes)


async def check_authority(store: Store, directory: Path, ca_hash: str, *, replace: bool = False) -> None:
    """Whether it is the store's; the first one is. Raises Invalid."""
    while True:
        kv = await store.get(keys.AUTHORITY)
        if kv is not None and kv.value.decode() == ca_hash:
            return
        if kv is not None and not replace:
            raise _refusal(
                f"{directory} holds another certificate authority than the one that the nodes of this store trust", 0
            )
        same = Compare(keys.AUTHORITY, CompareTarget.MOD, "=", kv.mod_revision if kv is not None else 0)
        if (await store.txn((same,), (Put(keys.AUTHORITY, ca_hash.encode()),))).succeeded:
            return


def _refusal(what: str, nodes: int) -> Invalid:
    whose = f", and {nodes} nodes trust no other" if nodes else ""
    return with_next(
        Invalid(f"{what}{whose}"),
        "restore ca.crt and ca.key from the backup (or another cloud process); or start over with `kubeedge cloud "
        "--new-authority` and join every node again with --replace",
    )
