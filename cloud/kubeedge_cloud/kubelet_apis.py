"""The kubelet API of each node as API servers of clusters reach it: a port of this process for each, and the certificates that ports show.

Lives elsewhere: the ports (kubelets), what a Node says of its own (edgecontroller), the API of a tenant (tenant_apis).
"""

from __future__ import annotations

from collections.abc import Callable

from kubeedge.api.names import NodeName, NodeNumber, TenantNumber
from kubeedge.beehive.module import Module
from kubeedge.config.cloud import CloudConfig
from kubeedge_cloud.certificates.filecertificate.module import FileCertificate
from kubeedge_cloud.certificates.module import ServerCertificate
from kubeedge_cloud.edgecontroller.kubelet_endpoint import KubeletEndpoint
from kubeedge_cloud.kubelets.contexts import PortTls
from kubeedge_cloud.kubelets.core import port_of
from kubeedge_cloud.kubelets.key_pairs import KeyPairs
from kubeedge_cloud.kubelets.module import KubeletPorts, KubeletPortsSettings
from kubeedge_cloud.kubelets.nodestreams.module import NodeStreams
from kubeedge_cloud.kubelets.serving import ServingCertificates
from kubeedge_cloud.tenant_apis import TenantApis
from kubeedge_cloud.tenants.manager import TenantManager
from kubeedge_cloud.tenants.model import TenantRecord


class KubeletApis:
    """`host`: where API servers reach this process, unless the configuration says otherwise. `nodes`: the most that a tenant can have."""

    def __init__(self, config: CloudConfig, host: str, nodes: int, apis: TenantApis) -> None:
        self._config, self._apis, self._nodes = config.kubelets, apis, nodes
        self._host = config.kubelets.node_address or host
        self._state = config.paths.state / "kubelets"
        #: there are ports: the node is reached by way of the relay
        self.served = (self._config.enable or self._config.client_ca is not None) and config.listeners.relay.enable

    def endpoint(self, tenant: TenantNumber, node: NodeNumber) -> KubeletEndpoint | None:
        """What the Node of a cluster says of it; None: no API server can reach it."""
        port = port_of(self._config.first_port, self._nodes, tenant, node)
        return KubeletEndpoint(self._host, port) if self.served and port is not None else None

    def modules(self, tenants: TenantManager, streams: NodeStreams, certificate: ServerCertificate) -> list[Module]:
        """The ports, and what looks after their certificate where it is the operator's. Raises ConfigError for one that cannot be used."""
        if not self.served:
            return []
        c = self._config
        settings = KubeletPortsSettings(address=c.address, first=c.first_port, nodes=self._nodes, clients=c.clients)
        files: FileCertificate | None = None
        if c.cert_file is not None and c.key_file is not None:
            files = FileCertificate(c.cert_file, c.key_file, "kubelets.certFile", name="kubeletcertificate")
        tls = PortTls(c.client_ca, files or certificate)
        signing = self._signing if c.server_tls_bootstrap and files is None else None
        ports = KubeletPorts(settings, tenants, streams.connect, tls.context, self._apis.cluster_of, signing=signing)
        return [ports] if files is None else [ports, files]

    def _signing(self, tenant: TenantRecord, changed: Callable[[NodeName], None]) -> ServingCertificates:
        """The serving certificates of a tenant's nodes, from its own cluster."""
        client = self._apis.clusters.of(tenant.name, tenant.cluster)
        return ServingCertificates(
            KeyPairs(self._state / tenant.name, [self._host]),
            client.as_node,
            approver=client if self._config.approve_certificates else None,
            leads=self._apis.leads(tenant.name, "edgecontroller"),
            changed=changed,
        )
