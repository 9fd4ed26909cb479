"""`kubeedge mesh trace`: which way the name of a Service goes from this node, and why; what is in the way. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from kubeedge.api.known_services import OTHER_PROXY
from kubeedge.errors import NotFound
from kubeedge.kit.ip import IpAddress
from kubeedge.mesh.model import Endpoint, Service, ServicePort
from kubeedge.mesh.network_policy import AllowedTraffic, PolicyPod
from kubeedge.mesh.table import MeshTable, choose


def trace(table: MeshTable, name: str, domain: str, *, alone: bool) -> dict[str, Any]:
    """`name`: NAME, NAME.NAMESPACE, NAMESPACE/NAME or the whole name. `alone`: there is no link to other nodes. Raises NotFound."""
    service = _named(table, name, domain)
    found = table.endpoints(service)
    return {
        "service": service.key,
        "type": "Headless" if service.headless else service.kind,
        "name": f"{service.name}.{service.namespace}.svc.{domain}",
        "resolves to": _resolves_to(service, found),
        "why": _why_of_name(table, service, domain),
        "refused": table.refused.get(service.key, ""),
        "ports": [_port(table, service, port, found, alone) for port in service.ports],
        "policies": list(_policies(table, service, found)),
    }


def port_text(number: int, protocol: str, node_port: int) -> str:
    """ "80:30080/TCP", as kubectl writes it."""
    return f"{number}{f':{node_port}' if node_port else ''}/{protocol}"


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


def _resolves_to(service: Service, endpoints: Sequence[Endpoint]) -> list[str]:
    if service.kind == "ExternalName":
        return [service.external_name or "nothing"]
    if service.headless:
        return [str(e.address) for e in endpoints if e.ready] or ["nothing"]
    return [str(address) for address in (*service.addresses, *service.external)] or ["nothing"]


def _why_of_name(table: MeshTable, service: Service, domain: str) -> str:
    if service.kind == "ExternalName":
        return _why_of_alias(table, service.external_name, domain)
    if service.headless:
        return "headless: the name has the addresses of the ready endpoints, and clients choose among them"
    if not service.proxied:
        return f"another proxy has its addresses: it has a label of {' or '.join(OTHER_PROXY)}"
    if not service.addresses:
        return "it has no cluster IP that is used here"
    return "cluster IP: connections are translated on this node"


def _why_of_alias(table: MeshTable, alias: str, domain: str) -> str:
    if not alias:
        return "ExternalName: the name that it stands for is none"
    text = alias.rstrip(".").lower()
    if not text.endswith(f".{domain}"):
        return f"ExternalName: it stands for {alias}, which the machine's resolvers are asked for"
    short, _, namespace = text.removesuffix(f".{domain}").removesuffix(".svc").partition(".")
    known = "which is traced by itself" if f"{namespace}/{short}" in table.services else "which is no Service here"
    return f"ExternalName: it stands for {alias}, {known}"


def _port(
    table: MeshTable, service: Service, port: ServicePort, endpoints: Sequence[Endpoint], alone: bool
) -> dict[str, Any]:
    having = [e for e in endpoints if port.name in e.ports]
    way = _Way(table, service, port, endpoints, alone)
    entry = {
        "port": port_text(port.port, port.protocol, port.node_port),
        **way.entry(local=service.local_inside, policy="internalTrafficPolicy"),
        "of": len(having),
    }
    if port.node_port or service.external:
        entry["from outside"] = way.entry(local=service.local_outside, policy="externalTrafficPolicy")
    if alone and any(e.node != table.node for e in having):
        entry["out of reach"] = [str(e.address) for e in having if e.node != table.node]
    return entry


class _Way:
    """Where connections to one port go."""

    def __init__(
        self, table: MeshTable, service: Service, port: ServicePort, endpoints: Sequence[Endpoint], alone: bool
    ) -> None:
        self._table, self._service, self._port, self._alone = table, service, port, alone
        self._endpoints = endpoints
        self._having = [e for e in endpoints if port.name in e.ports]

    def _chosen(self, *, local: bool) -> list[tuple[IpAddress, int]]:
        table = self._table
        return choose(
            self._service, self._endpoints, self._port.name, node=table.node, zone=table.zone, local=local, alone=self._alone
        )  # fmt: skip

    def entry(self, *, local: bool, policy: str) -> dict[str, Any]:
        """`policy`: the field that is Local, if `local`."""
        chosen = self._chosen(local=local) if self._service.proxied else []
        if self._service.headless or not self._service.proxied:
            nothing = ["nothing"]
        elif local and self._chosen(local=False):
            nothing = ["nothing: dropped"]
        else:
            nothing = ["nothing: refused"]
        to = [f"{address}:{number}" if address.version == 4 else f"[{address}]:{number}" for address, number in chosen]
        return {"goes to": to or nothing, "why": self._why(chosen, policy if local else "")}

    def _why(self, chosen: Sequence[tuple[IpAddress, int]], local: str) -> str:
        having = self._having
        if not self._service.proxied:
            return "another proxy has it"
        if not having:
            return self._why_none()
        if not chosen:
            return f"{local} is Local, and no ready endpoint is on this node" if local else "none is ready"
        here = {str(e.address) for e in having if e.node == self._table.node}
        if self._alone and not any(str(address) in here for address, _ in chosen):
            return "no link to other nodes, and no endpoint on this one: not reachable now"
        if self._service.headless:
            return "headless: clients choose among the addresses"
        if len(chosen) == len(having):
            return "every endpoint"
        if local:
            return f"{local} is Local"
        if self._alone:
            return "no link to other nodes: those on this node come first"
        distribution = self._service.distribution
        return f"trafficDistribution is {distribution}" if distribution else "the ready ones"

    def _why_none(self) -> str:
        if self._service.kind == "ExternalName":
            return "ExternalName: ports are those of the name that it stands for"
        if self._endpoints:
            return f"no pod has this port: the endpoints have {_names(self._endpoints)}"
        if not self._service.selector:
            return "no endpoints: the Service has no selector, and no EndpointSlice names it"
        wanted = ",".join(f"{key}={value}" for key, value in sorted(self._service.selector.items()))
        return f"no endpoints: no pod with an address has the labels {wanted}"


def _names(endpoints: Iterable[Endpoint]) -> str:
    return ", ".join(sorted({name or "one without a name" for e in endpoints for name in e.ports})) or "none"


def _policies(table: MeshTable, service: Service, endpoints: Sequence[Endpoint]) -> Iterator[dict[str, Any]]:
    """What policies of the endpoints on this node say of the ports that the Service leads to; those of pods elsewhere are their nodes'."""
    pods = {pod.address: pod for pod in table.pods()} if table.policies else {}
    for endpoint in endpoints:
        pod = pods.get(endpoint.address)
        selecting = [p for p in table.policies.values() if "ingress" in p.rules and pod is not None and p.selects(pod)]
        if pod is None or not selecting or endpoint.node != table.node:
            continue
        rules = [rule for policy in selecting for rule in policy.rules["ingress"]]
        for name, (protocol, number) in endpoint.ports.items():
            if any(port.name == name for port in service.ports):
                yield {
                    "endpoint": f"{endpoint.address}:{number}/{protocol}",
                    "isolated by": sorted(policy.key for policy in selecting),
                    "allowed": _allowed(pod, rules, protocol, number),
                }


def _allowed(pod: PolicyPod, rules: Iterable[AllowedTraffic], protocol: str, number: int) -> str:
    """From whom; this node itself always is."""
    passing = [rule for rule in rules if _has_port(pod, rule, protocol, number)]
    if any(rule.everybody for rule in passing):
        return "from everybody"
    peers = any(rule.blocks or rule.selections or rule.pods for rule in passing)
    return "from the peers of these policies and this node alone" if peers else "from this node alone"


def _has_port(pod: PolicyPod, rule: AllowedTraffic, protocol: str, number: int) -> bool:
    return (
        rule.all_ports
        or any(kind == protocol and first <= number <= last for kind, first, last in rule.ports)
        or any(kind == protocol and pod.port(name, kind) == number for name, kind in rule.names)
    )
