"""The port for clusters of users' own, as the configuration has it."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable

from kubeedge.api.client import KubeClient
from kubeedge.api.names import TenantId
from kubeedge.apiserver.device_calls import DeviceCalls
from kubeedge.apiserver.logs import NodeStream
from kubeedge.apiserver.message_calls import MessageCalls
from kubeedge.apiserver.offload import Offload
from kubeedge.apiserver.rule_calls import RuleCalls
from kubeedge.beehive.module import Module
from kubeedge.config.cloud import CloudConfig
from kubeedge_cloud.authority.ca import Authority
from kubeedge_cloud.bootstrap.endpoints import endpoint
from kubeedge_cloud.certificates.module import ServerCertificate
from kubeedge_cloud.clustercalls.module import ClusterCalls
from kubeedge_cloud.clustercalls.server import ClusterServer
from kubeedge_cloud.clustercalls.webhook import client_config
from kubeedge_cloud.processes.membership import Membership
from kubeedge_cloud.tenant_apis import TenantApis
from kubeedge_cloud.tenants.manager import TenantManager


def cluster_calls(
    config: CloudConfig,
    host: str,
    authority: Authority,
    certificate: ServerCertificate,
    tenants: TenantManager,
    apis: TenantApis,
    node_stream: NodeStream,
    messages: MessageCalls,
    offload: Offload,
    member: Membership,
) -> list[Module]:
    """`node_stream` connects to what rules and calls of methods reach on a node. [] when it is switched off."""
    on = config.listeners.clusters
    if not on.enable:
        return []

    def server(clusters: Callable[[TenantId], KubeClient | None]) -> ClusterServer:
        rules, methods = RuleCalls(node_stream), DeviceCalls(node_stream)
        return ClusterServer(clusters, rules, methods, messages, offload, time.monotonic, time.time)

    return [
        ClusterCalls(
            tenants,
            lambda record: apis.clusters.of(record.name, record.cluster),
            server,
            certificate.context(mutual=False, minimum=ssl.TLSVersion.TLSv1_2),
            client_config(authority.pem, service=config.clusters.service, endpoint=endpoint(host, on.port)),
            address=on.address,
            port=on.port,
            member=member,
        )
    ]
