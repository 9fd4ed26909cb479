"""The rows of Gateway API and Ingress: what `kubectl` sees of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from kubeedge.api import gateway, meta
from kubeedge.api.names import Object
from kubeedge.api.resources import Column, Printer, Row, Strategy
from kubeedge.apiserver.durations import age

_NONE = "<none>"


def _age(obj: Object, now: float) -> str:
    return age(meta.metadata(obj).get("creationTimestamp"), now)


def _condition(obj: Object, kind: str) -> str:
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return next((str(c.get("status")) for c in conditions if c.get("type") == kind), "Unknown")


def _joined(texts: Iterable[Any], separator: str = ",") -> str:
    return separator.join(dict.fromkeys(str(text) for text in texts if text))


def _addresses(obj: Object) -> str:
    entries = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    return _joined(entry.get("hostname") or entry.get("ip") for entry in entries)


def _class_cells(obj: Object, now: float) -> Sequence[Any]:
    name = (obj.get("spec") or {}).get("controllerName")
    return meta.name_of(obj), name, _condition(obj, "Accepted"), _age(obj, now)


def _gateway_cells(obj: Object, now: float) -> Sequence[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    addresses = _joined(address.get("value") for address in status.get("addresses") or ())
    return meta.name_of(obj), spec.get("gatewayClassName"), addresses, _condition(obj, "Programmed"), _age(obj, now)


def _route_cells(obj: Object, now: float) -> Sequence[Any]:
    hostnames = (obj.get("spec") or {}).get("hostnames") or ()
    return (
        meta.name_of(obj),
        "[" + ",".join(f'"{name}"' for name in hostnames) + "]" if hostnames else "",
        _age(obj, now),
    )


def _grant_cells(obj: Object, now: float) -> Sequence[Any]:
    return meta.name_of(obj), _age(obj, now)


def _ingress_cells(obj: Object, now: float) -> Sequence[Any]:
    spec = obj.get("spec") or {}
    hosts = _joined(rule.get("host") for rule in spec.get("rules") or ()) or "*"
    ports = "80, 443" if spec.get("tls") else "80"
    return meta.name_of(obj), spec.get("ingressClassName") or _NONE, hosts, _addresses(obj), ports, _age(obj, now)


def _ingressclass_cells(obj: Object, now: float) -> Sequence[Any]:
    parameters = (obj.get("spec") or {}).get("parameters") or {}
    shown = f"{parameters.get('kind')}/{parameters.get('name')}" if parameters else _NONE
    return meta.name_of(obj), (obj.get("spec") or {}).get("controller"), shown, _age(obj, now)


ROWS: tuple[Row, ...] = (
    Row(
        gateway.GATEWAYCLASSES,
        "gatewayclass",
        ("gc",),
        ("gateway-api",),
        ("status",),
        counts_generation=True,
        strategy=Strategy(
            "GatewayClass",
            strategic=False,
            validate=gateway.gatewayclass,
            validate_update=gateway.gatewayclass_changes,
        ),
        printer=Printer([Column("Name"), Column("Controller"), Column("Accepted"), Column("Age")], _class_cells),
    ),
    Row(
        gateway.GATEWAYS,
        "gateway",
        ("gtw",),
        ("gateway-api",),
        ("status",),
        counts_generation=True,
        strategy=Strategy("Gateway", strategic=False, validate=gateway.gateway),
        printer=Printer(
            [Column("Name"), Column("Class"), Column("Address"), Column("Programmed"), Column("Age")], _gateway_cells
        ),
    ),
    Row(
        gateway.HTTPROUTES,
        "httproute",
        (),
        ("gateway-api",),
        ("status",),
        counts_generation=True,
        strategy=Strategy("HTTPRoute", strategic=False, validate=gateway.httproute),
        printer=Printer([Column("Name"), Column("Hostnames"), Column("Age")], _route_cells),
    ),
    Row(
        gateway.TLSROUTES,
        "tlsroute",
        (),
        ("gateway-api",),
        ("status",),
        counts_generation=True,
        strategy=Strategy("TLSRoute", strategic=False, validate=gateway.tlsroute),
        printer=Printer([Column("Name"), Column("Hostnames"), Column("Age")], _route_cells),
    ),
    Row(
        gateway.TCPROUTES,
        "tcproute",
        (),
        ("gateway-api",),
        ("status",),
        counts_generation=True,
        strategy=Strategy("TCPRoute", strategic=False, validate=gateway.tcproute),
        printer=Printer([Column("Name"), Column("Age")], _grant_cells),
    ),
    Row(
        gateway.REFERENCEGRANTS,
        "referencegrant",
        ("refgrant",),
        ("gateway-api",),
        counts_generation=True,
        strategy=Strategy("ReferenceGrant", strategic=False, validate=gateway.referencegrant),
        printer=Printer([Column("Name"), Column("Age")], _grant_cells),
    ),
    Row(
        gateway.INGRESSES,
        "ingress",
        ("ing",),
        subresources=("status",),
        counts_generation=True,
        strategy=Strategy("Ingress", validate=gateway.ingress),
        printer=Printer(
            [Column("Name"), Column("Class"), Column("Hosts"), Column("Address"), Column("Ports"), Column("Age")],
            _ingress_cells,
        ),
    ),
    Row(
        gateway.INGRESSCLASSES,
        "ingressclass",
        counts_generation=True,
        strategy=Strategy("IngressClass", validate=gateway.ingressclass),
        printer=Printer(
            [Column("Name"), Column("Controller"), Column("Parameters"), Column("Age")], _ingressclass_cells
        ),
    ),
)
