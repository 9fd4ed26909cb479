"""Where everything is kept: the key layout of the cloud store and of the edge store.

Cloud store (T = tenant, N = node name, P = cloud process; numbers have five digits, so that their order is that of keys):

    /tenants/T                                    tenant record (kubeedge_cloud.tenants.model, as the next five)
    /tenant-numbers/NUMBER                        name of the tenant that has the number
    /t/T/nodes/N                                  node record: number, overlay address, pod CIDR
    /t/T/numbers/NUMBER                           name of the node that has the number
    /t/T/subnets/N                                networks that may be behind node N, a virtual router
    /t/T/certificates/N                           which certificate stands for node N (kubeedge_cloud.bootstrap.tokens)
    /t/T/tokens/ID                                bootstrap token record (likewise)
    /t/T/boards/SERIAL                            a board that joins by its serial number (kubeedge_cloud.bootstrap.boards)
    /t/T/registry/GROUP/RESOURCE[/NAMESPACE]/NAME the tenant's Kubernetes objects (kubeedge.apiserver); GROUP "core" for ""
    /t/T/edge/N/desired/RESOURCE/NAMESPACE/NAME   what node N should have: written by EdgeController (devices: DeviceController; gateways: kubeedge_cloud.gateway), synced down
    /t/T/edge/N/reported/RESOURCE/NAMESPACE/NAME  what node N says it has: synced up, read by EdgeController
    /t/T/edge/N/messages/log/POSITION             messages of programs of node N, in blocks (kubeedge.api.node_messages)
    /t/T/edge/N/messages/readers/NAME             how far a reader has them (kubeedge.apiserver.message_log)
    /t/T/edge/N/sync/up                           last sync revision of what node N says (kubeedge.sync)
    /t/T/edge/N/writes/done                       writes made on node N that were dealt with (kubeedge_cloud.edgecontroller.writes)
    /authority                                    hash of the authority that nodes trust (kubeedge_cloud.certificates.authority)
    /kubeconfigs/T/ID                             a kubeconfig of a tenant's user (kubeedge_cloud.kubeconfigs)
    /gateway/hosts/HOST                           the tenant that has the host name (kubeedge_cloud.gateway)
    /sessions/T/N                                 a node's hub channel is attached (kubeedge_cloud.cloudhub)
    /processes/P                                  a cloud process that lives (kubeedge_cloud.processes.membership)
    /leaders/WORK                                 the process that does a piece of work (likewise)
    /bus/relays/P                                 a relay that lives (kubeedge_cloud.bushub.peers, as the next three)
    /bus/numbers/NUMBER                           the relay that has the L4 number
    /bus/tuns/NUMBER/ADDRESS                      the relay whose own address that is, on the network of the tenant with the number
    /bus/nodes/T/N                                the relay to which node N is linked

Edge store:

    /desired/RESOURCE/NAMESPACE/NAME              copy of /t/T/edge/N/desired/
    /reported/RESOURCE/NAMESPACE/NAME             copied to /t/T/edge/N/reported/
    /sync/down                                    last sync revision of what the cloud wants (kubeedge.sync)
    /local/written/RESOURCE/NAMESPACE/NAME        the last answered write of an object (kubeedge.metaserver); never synced, as all of /local/
    /local/devices/NAMESPACE/NAME                 reported values of a device that are not for the cloud (kubeedge.devices); likewise
    /local/podcertificates/NAMESPACE/POD          keys and certificates of a pod (kubeedge.appengine.podcertificates); likewise
    /local/mappers/NAME                           a mapper that has registered by DMI (kubeedge.devices.dmi); likewise

RESOURCE is the lower-case plural ("pods", "configmaps", "secrets", "services", "nodes", "events", "webservices", "scans" and "discoveries" of
devices, and "writes", of which NAME is the number in 16 digits); NAMESPACE is "_" for what has none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from kubeedge.api.names import NodeName, NodeNumber, TenantId, TenantNumber

CLUSTER_SCOPE = "_"
_TENANT = "/t/"
_LOCAL_SECRETS = "local(?=/podcertificates/)"  # of what is never synced, this alone is encrypted with others
DESIRED = "/desired/"
REPORTED = "/reported/"
LOCAL = "/local/"
WRITTEN = f"{LOCAL}written/"
LOCAL_DEVICES = f"{LOCAL}devices/"
LOCAL_CERTIFICATES = f"{LOCAL}podcertificates/"
MAPPERS = f"{LOCAL}mappers/"
SYNC_DOWN = "/sync/down"
TENANTS = "/tenants/"
TENANT_NUMBERS = "/tenant-numbers/"
AUTHORITY = "/authority"
KUBECONFIGS = "/kubeconfigs/"
GATEWAY_HOSTS = "/gateway/hosts/"
SESSIONS = "/sessions/"
PROCESSES = "/processes/"
LEADERS = "/leaders/"
_ROW = re.compile(r"[a-z0-9.-]+(?:/[^/\x00-\x20\x7f]+){2}")
BUS = "/bus/"
RELAYS, RELAY_NUMBERS, LINKED = f"{BUS}relays/", f"{BUS}numbers/", f"{BUS}nodes/"


def desired(resource: str, namespace: str, name: str) -> str:
    """Key in the edge store."""
    return f"{DESIRED}{resource}/{namespace or CLUSTER_SCOPE}/{name}"


def reported(resource: str, namespace: str, name: str) -> str:
    """Key in the edge store."""
    return f"{REPORTED}{resource}/{namespace or CLUSTER_SCOPE}/{name}"


def local_device(namespace: str, name: str) -> str:
    """Key in the edge store of what a device reports and its node keeps for itself."""
    return f"{LOCAL_DEVICES}{namespace}/{name}"


def local_certificates(namespace: str, pod: str) -> str:
    """Key in the edge store of what a node has of a pod's certificates: keys, and what came of requests."""
    return f"{LOCAL_CERTIFICATES}{namespace}/{pod}"


def split(key: str) -> tuple[str, str, str]:
    """(resource, namespace, name) of the last three elements of a desired or reported key; namespace "" for "_"."""
    resource, namespace, name = key.rsplit("/", 3)[1:]
    return resource, "" if namespace == CLUSTER_SCOPE else namespace, name


def is_row(key: str) -> bool:
    """RESOURCE/NAMESPACE/NAME, as all rows below /desired/ and /reported/ are. Whoever reads rows splits their keys, and a node could report
    any key."""
    return _ROW.fullmatch(key) is not None


def of_resources(resources: Iterable[str]) -> re.Pattern[str]:
    """Matches the keys, in both stores, of objects of these resources; "*" is all resources."""
    names = "|".join("[^/]+" if name == "*" else re.escape(name) for name in sorted(resources))
    return re.compile(
        f"/(?:t/[^/]+/(?:registry/[^/]+|edge/[^/]+/(?:desired|reported))|desired|reported|{_LOCAL_SECRETS})/(?:{names})/"
    )


def owner(key: str) -> str:
    """In the cloud store: the prefix of the tenant whose key that is, without its last slash; "" for what is no tenant's alone."""
    return key[: key.find("/", len(_TENANT))] if key.startswith(_TENANT) else ""


def lets_in(key: str) -> tuple[str, str, str] | None:
    """In the cloud store: what a client authenticates with, "kubeconfigs", "tokens" or "nodes", its tenant and its name; None for another key."""
    match key.split("/"):
        case ["", "kubeconfigs", of_tenant, name]:
            return "kubeconfigs", of_tenant, name
        case ["", "t", of_tenant, ("tokens" | "nodes") as kind, name]:
            return kind, of_tenant, name
    return None


def of_tenant(tenant: TenantId) -> str:
    """Prefix in the cloud store of what is a tenant's alone."""
    return f"{_TENANT}{tenant}/"


def sessions(tenant: TenantId) -> str:
    """Prefix of the sessions of a tenant's nodes."""
    return f"{SESSIONS}{tenant}/"


def edges(tenant: TenantId) -> str:
    """Prefix in the cloud store of everything of all nodes of a tenant."""
    return f"/t/{tenant}/edge/"


def edge(tenant: TenantId, node: NodeName) -> str:
    """Prefix in the cloud store of everything of one node; DESIRED[1:] and REPORTED[1:] follow it."""
    return f"{edges(tenant)}{node}/"


def edge_desired(tenant: TenantId, node: NodeName) -> str:
    """Prefix in the cloud store of what a node should have; copied to /desired/ on the edge."""
    return edge(tenant, node) + DESIRED[1:]


def edge_reported(tenant: TenantId, node: NodeName) -> str:
    """Prefix in the cloud store of what a node says it has; copied from /reported/ on the edge."""
    return edge(tenant, node) + REPORTED[1:]


def edge_sync_up(tenant: TenantId, node: NodeName) -> str:
    """Key of the last sync revision that the cloud has taken from the node."""
    return edge(tenant, node) + "sync/up"


def edge_writes_done(tenant: TenantId, node: NodeName) -> str:
    """Key of the writes made on the node that were dealt with."""
    return edge(tenant, node) + "writes/done"


def message_log(tenant: TenantId, node: NodeName) -> str:
    """Prefix of the messages of a node's programs; the position of a block's first message follows, in 16 digits."""
    return edge(tenant, node) + "messages/log/"


def message_readers(tenant: TenantId, node: NodeName) -> str:
    """Prefix of those who read the messages; the reader's name follows."""
    return edge(tenant, node) + "messages/readers/"


def tenant(name: TenantId) -> str:
    """Key of the tenant's record."""
    return f"{TENANTS}{name}"


def nodes(tenant: TenantId) -> str:
    """Prefix of the records of the tenant's nodes; the node's name follows."""
    return f"/t/{tenant}/nodes/"


def tenant_number(number: TenantNumber) -> str:
    """Key whose value is the name of the tenant with that number: five digits, which sort as the numbers do."""
    return f"{TENANT_NUMBERS}{number:05}"


def node_numbers(tenant: TenantId) -> str:
    """Prefix of the node numbers in use in the tenant."""
    return f"/t/{tenant}/numbers/"


def node_number(tenant: TenantId, number: NodeNumber) -> str:
    """Key whose value is the name of the node with that number: five digits, which sort as the numbers do."""
    return f"{node_numbers(tenant)}{number:05}"


def subnets(tenant: TenantId, node: NodeName) -> str:
    """Key of the networks that may be behind the node."""
    return f"/t/{tenant}/subnets/{node}"


def certificate(tenant: TenantId, node: NodeName) -> str:
    """Key of the claim that says which certificate stands for the node."""
    return f"/t/{tenant}/certificates/{node}"


def tokens(tenant: TenantId) -> str:
    """Prefix of the tenant's bootstrap token records; the token's ID follows."""
    return f"/t/{tenant}/tokens/"


def boards(tenant: TenantId) -> str:
    """Prefix of the tenant's records of boards that join by their serial number, which follows."""
    return f"/t/{tenant}/boards/"


def kubeconfigs(tenant: TenantId) -> str:
    """Prefix of the records of kubeconfigs of the tenant's users; the kubeconfig's ID follows."""
    return f"{KUBECONFIGS}{tenant}/"


def registry(tenant: TenantId) -> str:
    """Prefix of the tenant's Kubernetes objects; GROUP/RESOURCE[/NAMESPACE]/NAME follows, GROUP "core" for ""."""
    return f"/t/{tenant}/registry/"


def session(tenant: TenantId, node: NodeName) -> str:
    """Key that exists while the node's hub channel is attached to any process of the cloud."""
    return f"{SESSIONS}{tenant}/{node}"


def relay_number(number: NodeNumber) -> str:
    """Key of the relay with that L4 number, in five digits."""
    return f"{RELAY_NUMBERS}{number:05}"


def relay_tun(tenant_number: TenantNumber, address: str) -> str:
    """Key of the relay whose TUN interface has that address on the tenant's network."""
    return f"{BUS}tuns/{tenant_number:05}/{address}"


def linked(tenant: TenantId, node: NodeName) -> str:
    """Key of the relay to which the node is linked, a NextHop (kubeedge_cloud.bushub.records)."""
    return f"{LINKED}{tenant}/{node}"


def prefix_end(prefix: str) -> str:
    """The smallest key that is greater than every key with this prefix (etcd's range_end of a prefix).

    Keys are UTF-8 and compare by code point, which is the order of their bytes.
    """
    stem = prefix.rstrip("\U0010ffff")  # the last code point has no successor: the one before it is raised instead
    if not stem:
        return "\U0010ffff"
    after = ord(stem[-1]) + 1
    return stem[:-1] + chr(0xE000 if after == 0xD800 else after)  # surrogates are not characters
