"""Rules of NetworkPolicies (strategy of the built-in resource). Called with types checked."""

from __future__ import annotations

from typing import Any

from kubeedge.api.findings import Findings
from kubeedge.api.names import Object
from kubeedge.api.selectors import of_selector
from kubeedge.api.status import FieldError, forbidden, invalid, required, too_many, unsupported
from kubeedge.api.validation_names import PORT_NAME, as_list, as_map, port_number
from kubeedge.errors import Invalid
from kubeedge.kit.ip import IpNetwork, network_of

MAX_RULES = 100  # of one direction
MAX_PEERS = 100  # of one rule
MAX_SELECTORS = 256  # of pods in all rules of one policy; each is asked of each pod
MAX_PORTS = 100  # of one rule
MAX_EXCEPT = 256  # of one ipBlock
_TYPES = ("Ingress", "Egress")
_PROTOCOLS = ("TCP", "UDP", "SCTP")


def networkpolicy(obj: Object) -> list[FieldError]:
    """Rules of a NetworkPolicy: selectors and networks that make sense, and so many of them."""
    spec = as_map(obj.get("spec"))
    errors: list[FieldError] = Findings()
    errors += _selector("spec.podSelector", spec.get("podSelector"))
    kinds = as_list(spec.get("policyTypes"))
    if len(kinds) > len(_TYPES):
        errors.append(too_many("spec.policyTypes", len(kinds), len(_TYPES)))
    for index, kind in enumerate(kinds[: len(_TYPES)]):
        if kind not in _TYPES:
            errors.append(unsupported(f"spec.policyTypes[{index}]", kind, _TYPES))
    selectors = 0
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        rules = as_list(spec.get(direction))
        selectors += sum(not as_map(peer).get("ipBlock") for rule in rules for peer in as_list(as_map(rule).get(peers)))
        if len(rules) > MAX_RULES:
            errors.append(too_many(f"spec.{direction}", len(rules), MAX_RULES))
        for index, rule in enumerate(rules[:MAX_RULES]):
            errors += _rule(f"spec.{direction}[{index}]", as_map(rule), peers)
    if selectors > MAX_SELECTORS:
        errors.append(invalid("spec", selectors, f"must have at most {MAX_SELECTORS} selectors of pods in all rules"))
    return errors


def _rule(path: str, rule: Object, peers: str) -> list[FieldError]:
    errors: list[FieldError] = Findings()
    for name, limit in (("ports", MAX_PORTS), (peers, MAX_PEERS)):
        if len(as_list(rule.get(name))) > limit:
            errors.append(too_many(f"{path}.{name}", len(rule[name]), limit))
    for index, port in enumerate(as_list(rule.get("ports"))[:MAX_PORTS]):
        errors += _port(f"{path}.ports[{index}]", as_map(port))
    for index, peer in enumerate(as_list(rule.get(peers))[:MAX_PEERS]):
        errors += _peer(f"{path}.{peers}[{index}]", as_map(peer))
    return errors


def _port(path: str, port: Object) -> list[FieldError]:
    errors: list[FieldError] = Findings()
    if port.get("protocol", "TCP") not in _PROTOCOLS:
        errors.append(unsupported(f"{path}.protocol", port.get("protocol"), _PROTOCOLS))
    first, last = port.get("port"), port.get("endPort")
    if isinstance(first, int):
        errors += port_number(f"{path}.port", first)
    elif isinstance(first, str) and (len(first) > 15 or not PORT_NAME.fullmatch(first)):
        errors.append(invalid(f"{path}.port", first, "must be a number, or the name of a container's port"))
    if last is not None:
        if first is None:
            errors.append(invalid(f"{path}.endPort", last, "may not be specified when `port` is not specified"))
        elif isinstance(first, str):
            errors.append(invalid(f"{path}.endPort", last, "may not be specified when `port` is non-numeric"))
        elif found := port_number(f"{path}.endPort", last):
            errors += found
        elif last < first:
            errors.append(invalid(f"{path}.endPort", last, "must be greater than or equal to `port`"))
    return errors


def _peer(path: str, peer: Object) -> list[FieldError]:
    errors: list[FieldError] = Findings()
    selectors = [name for name in ("podSelector", "namespaceSelector") if peer.get(name) is not None]
    for name in selectors:
        errors += _selector(f"{path}.{name}", peer[name])
    block = peer.get("ipBlock")
    if block is not None:
        errors += _block(f"{path}.ipBlock", as_map(block))
        if selectors:
            errors.append(forbidden(path, "may not specify both ipBlock and another peer"))
    elif not selectors:
        errors.append(required(path, "must specify a peer"))
    return errors


def _block(path: str, block: Object) -> list[FieldError]:
    errors: list[FieldError] = Findings()
    network = _network(block.get("cidr"))
    if network is None:
        errors.append(invalid(f"{path}.cidr", block.get("cidr"), "must be a valid CIDR value, (e.g. 10.9.8.0/24)"))
    listed = as_list(block.get("except"))
    if len(listed) > MAX_EXCEPT:
        errors.append(too_many(f"{path}.except", len(listed), MAX_EXCEPT))
    for index, text in enumerate(listed[:MAX_EXCEPT]):
        part = _network(text)
        if part is None:
            errors.append(invalid(f"{path}.except[{index}]", text, "must be a valid CIDR value, (e.g. 10.9.8.0/24)"))
        elif network is not None and not (_is_within(part, network) and part.prefixlen > network.prefixlen):
            errors.append(invalid(f"{path}.except[{index}]", text, "must be a strict subset of `cidr`"))
    return errors


def _network(text: Any) -> IpNetwork | None:
    try:
        return network_of(text) if isinstance(text, str) and "/" in text else None
    except ValueError:
        return None


def _is_within(part: IpNetwork, whole: IpNetwork) -> bool:
    return part.version == whole.version and part.network_address in whole


def _selector(path: str, selector: Any) -> list[FieldError]:
    try:
        of_selector({} if selector is None else selector)
    except Invalid as exc:
        return [invalid(path, selector, str(exc))]
    return []
