"""What `kubeedge mesh` and the metrics say of Services on this node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kubeedge.kit.metrics import Family, family
from kubeedge.mesh.dns.server import DnsServer
from kubeedge.mesh.service_trace import port_text
from kubeedge.mesh.table import MeshTable

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
            "ports": [port_text(port.port, port.protocol, port.node_port) for port in service.ports],
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


def names(server: DnsServer, address: str, domain: str, problem: str, lan: Mapping[str, DnsServer]) -> dict[str, Any]:
    """The DNS server: where, what it was asked, what it keeps. `lan`: those for other machines, by address."""
    counters = server.counters
    others = {where: other.counters for where, other in lan.items()}
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
        "lan": {
            where: {"udp": c.udp, "tcp": c.tcp, "answered": c.kept + c.cluster, "refused": c.refused}
            for where, c in others.items()
        },
    }


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
