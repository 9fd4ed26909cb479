"""What `publishing` of the configuration says, as the web listener needs it."""

from __future__ import annotations

import ssl
from ipaddress import ip_address

from kubeedge.beehive.module import Module
from kubeedge.config import forms
from kubeedge.config.cloud import PublicTls, PublishingConfig
from kubeedge.kubebus.http.limits import ProxyLimits
from kubeedge_cloud.certificates.filecertificate.module import FileCertificate, modern
from kubeedge_cloud.certificates.module import ServerCertificate
from kubeedge_cloud.gateway.ports import GatewayPorts


def limits_of(c: PublishingConfig) -> ProxyLimits:
    """The limits of the client proxy, and of requests for Gateways."""
    return ProxyLimits(
        answer=c.timeout,
        concurrent=c.concurrent,
        rate=c.rate,
        burst=c.burst,
        connections=c.connections,
        per_client=c.per_client,
    )


def tls_of(c: PublishingConfig, certificate: ServerCertificate) -> tuple[ssl.SSLContext | None, list[Module]]:
    """The TLS context of the listener, None for plain HTTP, and the modules that keep it up to date."""
    if isinstance(c.tls, PublicTls):
        files = FileCertificate(c.tls.cert_file, c.tls.key_file, "publishing.tls", name="publiccertificate")
        return modern(files.context_for(None, minimum=ssl.TLSVersion.TLSv1_2)), [files]
    if c.tls:
        return modern(certificate.context(mutual=False, minimum=ssl.TLSVersion.TLSv1_2)), []
    return None, []


def ports_of(c: PublishingConfig, port: int) -> GatewayPorts:
    """The ports of Gateways' listeners that the web listener at `port` stands for, its own and the one that everybody means, and all others."""
    shared = {number: family for number, family in map(forms.gateway_port, c.gateway_ports) if number != port}
    own = frozenset((443 if c.tls else 80, port)) - shared.keys()
    return GatewayPorts(
        http=frozenset() if c.tls else own,
        https=own if c.tls else frozenset(),
        shared=shared,
        addresses=tuple(dict.fromkeys(str(ip_address(text)) for text in c.gateway_addresses)),
        per_tenant=c.addresses_of_tenant,
    )
