"""What `kubeedge mesh` and the metrics say of Services on this node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubeedge.errors import NotFound
from kubeedge.kit.metrics import Family, family
from kubeedge.mesh.dns.server import DnsServer
from kubeedge.mesh.model import Service
from kubeedge.mesh.table import MeshTable, choose

if TYPE_CHECKING:
    from kubeedge.mesh.enforcer import PolicyEnforcer
    from kubeedge.mesh.proxy import ServiceProxy


def services(table: MeshTable, problem: str) -> dict[str, Any]:
    """{"services": [...], "problem", "refused"}."""
    rows = [
        {
            "service": key,
            "type": "Headless" if service.headless else service.kind,
            "addresses": [str(a) for a in (*service.addresses, *service.external)] or [service.external_name],
            "ports": [_port(port.port, port.protocol, port.node_port) for port in service.ports],
            "endpoints": len([e for e in table.endpoints(service) if e.ready]),
        }
        for key, service in sorted(table.services.items())
    ]
    return {"services": rows, "problem": problem, "refused": dict(sorted(table.refused.items()))}


def policies(table: MeshTable, problem: str) -> dict[str, Any]:
    """{"policies": [...], "problem", "refused"}; `pods` of a policy: addresses of those that it selects here."""
    pods = list(table.pods())
    rows = [
        {
            "policy": key,
            "directions": list(policy.rules),
            "pods": [str(pod.address) for pod in pods if policy.selects(pod)],
            "left out": policy.left_out,
        }
        for key, policy in sorted(table.policies.items())
    ]
    return {"policies": rows, "problem": problem, "refused": dict(sorted(table.refused_policies.items()))}


def endpoints(table: MeshTable) -> dict[str, Any]:
    """{"endpoints": [...]}, one row for each address behind a Service."""
    rows = [
        {
            "service": key,
            "address": str(endpoint.address),
            "ports": [f"{number}/{protocol}" for protocol, number in endpoint.ports.values()],
            "node": endpoint.node,
            "state": "ready" if endpoint.ready else "ending" if endpoint.terminating else "not ready",
            "from": "this node" if endpoint.node == table.node and service.selector else "the cloud",
        }
        for key, service in sorted(table.services.items())
        for endpoint in table.endpoints(service)
    ]
    return {"endpoints": rows}


def names(server: DnsServer, address: str, domain: str, problem: str) -> dict[str, Any]:
    """The DNS server: where, what it was asked, what it keeps."""
    counters = server.counters
    return {
        "address": address,
        "domain": domain,
        "problem": problem,
        "queries": {"udp": counters.udp, "tcp": counters.tcp, "answered without Python": counters.kept},
        "answers": {
            "cluster": counters.cluster,
            "forwarded": counters.forwarded,
            "failed": counters.failed,
            "refused": counters.refused,
        },
        "cache": server.kept,
    }


def trace(table: MeshTable, name: str, domain: str, *, alone: bool) -> dict[str, Any]:
    """Which way a Service goes from this node, and why. `name`: NAME, NAME.NAMESPACE, NAMESPACE/NAME or the whole name. Raises NotFound."""
    service = _named(table, name, domain)
    found = table.endpoints(service)
    ports = []
    for port in service.ports:
        chosen = choose(
            service, found, port.name, node=table.node, zone=table.zone, local=service.local_inside, alone=alone
        )
        having = [e for e in found if port.name in e.ports]
        ports.append(
            {
                "port": _port(port.port, port.protocol, port.node_port),
                "goes to": [f"{address}:{number}" for address, number in chosen] or ["nothing: refused"],
                "of": len(having),
                "why": _why(service, len(having), len(chosen), alone),
            }
        )
    addresses = [str(a) for a in (*service.addresses, *service.external)]
    return {
        "service": service.key,
        "name": f"{service.name}.{service.namespace}.svc.{domain}",
        "resolves to": addresses
        or [service.external_name or ", ".join(str(e.address) for e in found if e.ready) or "nothing"],
        "refused": table.refused.get(service.key, ""),
        "ports": ports,
    }


def _why(service: Service, having: int, chosen: int, alone: bool) -> str:
    if service.headless:
        return "headless: clients choose among the addresses"
    if not having:
        return "no pod has this port"
    if not chosen:
        return "internalTrafficPolicy is Local" if service.local_inside else "none is ready"
    if chosen == having:
        return "every endpoint"
    if service.local_inside:
        return "internalTrafficPolicy is Local"
    if alone:
        return "no link to other nodes: those on this node come first"
    return f"trafficDistribution is {service.distribution}" if service.distribution else "the ready ones"


def _named(table: MeshTable, name: str, domain: str) -> Service:
    text = name.rstrip(".").removesuffix(f".{domain}").removesuffix(".svc")
    if "/" in text:
        namespace, _, short = text.partition("/")
    else:
        short, _, namespace = text.partition(".")
    key = f"{namespace or 'default'}/{short}"
    if (service := table.services.get(key)) is None:
        known = namespace in table.namespaces or not namespace
        why = (
            ""
            if known
            else "; a node has the Services of the namespaces that its pods use (kubeedge.io/mesh-namespaces)"
        )
        raise NotFound(f"this node has no Service {key}{why}")
    return service


def _port(number: int, protocol: str, node_port: int) -> str:
    return f"{number}{f':{node_port}' if node_port else ''}/{protocol}"


def families(dns: DnsServer, proxy: ServiceProxy, enforcer: PolicyEnforcer) -> list[Family]:
    """The metrics of service proxy, policies and DNS, read at each scrape."""
    counters, counts = dns.counters, proxy.counts
    return [
        family("kubeedge_mesh_services", "gauge", "Services with rules in the kernel.", counts["services"]),
        family("kubeedge_mesh_policies", "gauge", "NetworkPolicies of this node.", enforcer.counts["policies"]),
        family("kubeedge_mesh_isolated_pods", "gauge", "Pods that a policy isolates.", enforcer.counts["pods"]),
        family(
            "kubeedge_mesh_transactions_total",
            "counter",
            "Transactions of nftables.",
            proxy.transactions + enforcer.transactions,
        ),
        family(
            "kubeedge_mesh_restored_total",
            "counter",
            "Times that another program removed the rules.",
            proxy.restored + enforcer.restored,
        ),
        family(
            "kubeedge_dns_queries_total",
            "counter",
            "Queries of pods and of this node.",
            [({"transport": "udp"}, counters.udp), ({"transport": "tcp"}, counters.tcp)],
        ),
        family(
            "kubeedge_dns_answers_total",
            "counter",
            "Answers that were not kept ones, by where they are from.",
            [
                ({"from": "cluster"}, counters.cluster),
                ({"from": "upstream"}, counters.forwarded),
                ({"from": "failed"}, counters.failed),
                ({"from": "refused"}, counters.refused),
            ],
        ),
        family("kubeedge_dns_cache_bytes", "gauge", "Bytes of kept answers.", dns.kept["bytes"]),
    ]
