"""What `publishing` of the configuration says, as the web listener needs it."""

from __future__ import annotations

import ssl

from kubeedge.beehive.module import Module
from kubeedge.config.cloud import PublicTls, PublishingConfig
from kubeedge.kubebus.http.limits import ProxyLimits
from kubeedge_cloud.certificates.filecertificate.module import FileCertificate, modern
from kubeedge_cloud.certificates.module import ServerCertificate
from kubeedge_cloud.gateway.model import WebPorts


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


def ports_of(c: PublishingConfig, port: int) -> WebPorts:
    """The ports of Gateways' listeners that the web listener at `port` stands for: its own, and the one that everybody means."""
    return WebPorts(https=frozenset((443, port))) if c.tls else WebPorts(http=frozenset((80, port)))
