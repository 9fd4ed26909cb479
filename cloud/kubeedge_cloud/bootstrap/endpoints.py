"""Where nodes reach the cloud: what they are told when they join, by the configuration. Pure."""

from __future__ import annotations

from kubeedge.config.cloud import CloudConfig, Listener
from kubeedge.errors import Invalid

LOCAL_NAMES = ("127.0.0.1", "localhost")


def endpoint(host: str, port: int) -> str:
    """host:port; an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def hosts(config: CloudConfig) -> tuple[str, ...]:
    """Names and addresses of this process."""
    return config.advertise or ("127.0.0.1",)


def certificate_names(config: CloudConfig) -> list[str]:
    """Names and addresses by which somebody reaches this process, each once."""
    kubelets = [config.kubelets.node_address] if config.kubelets.node_address else []
    return list(
        dict.fromkeys([*hosts(config), *config.publishing.names, *kubelets, *_service_names(config), *LOCAL_NAMES])
    )


def _service_names(config: CloudConfig) -> list[str]:
    namespace, _, name = config.clusters.service.partition("/")
    return [f"{name}.{namespace}.svc", f"{name}.{namespace}.svc.cluster.local"] if name else []


def advertised(config: CloudConfig, listener: Listener) -> tuple[str, ...]:
    """Where nodes reach that listener: what is off in this process may be on in the others, on the same port."""
    found = (*(hosts(config) if listener.enable else ()), *config.peers)
    return tuple(endpoint(host, listener.port) for host in found) if listener.port else ()


def node_endpoints(config: CloudConfig) -> dict[str, tuple[str, ...]]:
    """ "hub", "relays" (there may be none) and "bootstrap" as joining nodes are told. Raises Invalid for listeners that nodes could not use."""
    on = config.listeners
    for name, listener in (("hub", on.hub), ("relay", on.relay), ("bootstrap", on.bootstrap)):
        if listener.enable and not listener.port:
            raise Invalid("nodes are told this port when they join, so it cannot be 0", path=f"listeners.{name}.port")
    found = {
        "hub": advertised(config, on.hub),
        "relays": advertised(config, on.relay),
        "bootstrap": advertised(config, on.bootstrap),
    }
    if not found["hub"]:
        raise Invalid(
            "off, and no other process is named under `peers`: nodes that join would have no channel; switch "
            "listeners.bootstrap off, too",
            path="listeners.hub.enable",
        )
    return found
