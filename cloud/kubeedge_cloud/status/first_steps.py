"""What an administrator does next who has just started a cloud process, in its log."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from ipaddress import ip_address

from kubeedge.api.names import TenantId
from kubeedge.config.cloud import CloudConfig
from kubeedge_cloud.bootstrap.endpoints import endpoint
from kubeedge_cloud.kubeconfigs.files import KubeconfigFiles

log = logging.getLogger("kubeedge.status")


def log_them(config: CloudConfig, hosts: Sequence[str], kubeconfigs: KubeconfigFiles) -> None:
    """Where kubectl finds its configuration, how a node joins, and a warning where `hosts` lead other machines nowhere."""
    on = config.listeners
    if all(_is_loopback(host) for host in hosts):
        log.warning(
            "advertise is not set, or names this machine alone: nodes and kubectl on other machines are told %s. Set "
            "`advertise: [NAME OR ADDRESS]` in the configuration",
            ", ".join(hosts),
        )
    if on.api.enable:
        for tenant in (TenantId(name) for name, cluster in config.tenant_clusters.items() if not cluster):
            log.info("kubectl: export KUBECONFIG=%s", kubeconfigs.path(tenant))
    if on.bootstrap.enable:
        log.info(
            "nodes: `kubeedge token create --node NAME` here, then `kubeedge join --token TOKEN --name NAME %s` there",
            endpoint(hosts[0], on.bootstrap.port),
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
