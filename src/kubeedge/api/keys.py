"""Where everything is kept: the key layout of the cloud store and of the edge store.

Cloud store (T = tenant, N = node name):

    /tenants/T                                    tenant record (kubeedge_cloud.tenants)
    /t/T/nodes/N                                  node record: number, overlay address, pod CIDR (kubeedge_cloud.tenants)
    /t/T/numbers/NNNNN                            name of the node that has the number; /tenant-numbers/NNNNN likewise
    /t/T/certificates/N                           which certificate stands for node N (kubeedge_cloud.bootstrap)
    /t/T/tokens/ID                                bootstrap token record (kubeedge_cloud.bootstrap)
    /t/T/registry/GROUP/RESOURCE[/NAMESPACE]/NAME the tenant's Kubernetes objects (kubeedge.apiserver); GROUP "core" for ""
    /t/T/edge/N/desired/RESOURCE/NAMESPACE/NAME   what node N should have: written by EdgeController, synced down
    /t/T/edge/N/reported/RESOURCE/NAMESPACE/NAME  what node N says it has: synced up, read by EdgeController
    /sessions/T/N                                 a node's hub channel is attached (kubeedge_cloud.cloudhub)
    /processes/P, /leaders/WORK                   which cloud processes live, and who does what (kubeedge_cloud.processes)

Edge store:

    /desired/RESOURCE/NAMESPACE/NAME              mirror of /t/T/edge/N/desired/
    /reported/RESOURCE/NAMESPACE/NAME             mirrored to /t/T/edge/N/reported/
    /local/...                                    never synced
    /sync/...                                     last sync revisions

RESOURCE is the lower-case plural ("pods", "configmaps", "secrets", "nodes", "events", "webservices"); NAMESPACE is "_"
for what has none.
"""

from __future__ import annotations

from kubeedge.api.names import NodeName, TenantId

CLUSTER_SCOPE = "_"
DESIRED = "/desired/"
REPORTED = "/reported/"
LOCAL = "/local/"
SYNC = "/sync/"
TENANTS = "/tenants/"
SESSIONS = "/sessions/"


def desired(resource: str, namespace: str, name: str) -> str:
    """Key in the edge store."""
    return f"{DESIRED}{resource}/{namespace or CLUSTER_SCOPE}/{name}"


def reported(resource: str, namespace: str, name: str) -> str:
    """Key in the edge store."""
    return f"{REPORTED}{resource}/{namespace or CLUSTER_SCOPE}/{name}"


def split(key: str) -> tuple[str, str, str]:
    """(resource, namespace, name) of the last three elements of a desired or reported key; namespace "" for "_"."""
    resource, namespace, name = key.rsplit("/", 3)[1:]
    return resource, "" if namespace == CLUSTER_SCOPE else namespace, name


def edge(tenant: TenantId, node: NodeName) -> str:
    """Prefix in the cloud store of everything of one node; DESIRED[1:] and REPORTED[1:] follow it."""
    return f"/t/{tenant}/edge/{node}/"


def edge_desired(tenant: TenantId, node: NodeName) -> str:
    return edge(tenant, node) + DESIRED[1:]


def edge_reported(tenant: TenantId, node: NodeName) -> str:
    return edge(tenant, node) + REPORTED[1:]


def tenant(name: TenantId) -> str:
    return f"{TENANTS}{name}"


def nodes(tenant: TenantId) -> str:
    return f"/t/{tenant}/nodes/"


def tokens(tenant: TenantId) -> str:
    return f"/t/{tenant}/tokens/"


def registry(tenant: TenantId) -> str:
    return f"/t/{tenant}/registry/"


def session(tenant: TenantId, node: NodeName) -> str:
    return f"{SESSIONS}{tenant}/{node}"


def prefix_end(prefix: str) -> str:
    """The smallest key that is greater than every key with this prefix (etcd's range_end of a prefix).

    Keys are UTF-8 and compare by code point, which is the order of their bytes.
    """
    stem = prefix.rstrip("\U0010ffff")  # the last code point has no successor: the one before it is raised instead
    if not stem:
        return "\U0010ffff"
    after = ord(stem[-1]) + 1
    return stem[:-1] + chr(0xE000 if after == 0xD800 else after)  # surrogates are not characters
