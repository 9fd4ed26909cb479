"""Rules of workloads, services, configuration and nodes (strategies of the built-in resources); `create` and `update` apply all rules.

Lives elsewhere: metadata and pods (validation.py).
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from kubeedge.api import selectors, validation_families, validation_sizes
from kubeedge.api.findings import Findings, collect
from kubeedge.api.names import Object
from kubeedge.api.pod import Unsupported
from kubeedge.api.pod_parser import parse as parse_pod
from kubeedge.api.resources import PODS, Row
from kubeedge.api.status import (
    FieldError,
    InvalidObject,
    duplicate,
    forbidden,
    invalid,
    required,
    too_long,
    unsupported,
)
from kubeedge.api.validation import pod as pod_spec
from kubeedge.api.validation import pod_update
from kubeedge.api.validation_names import CONFIG_KEY, PORT_NAME, labels, metadata, port_number
from kubeedge.errors import Invalid
from kubeedge.kit.ip import address_of

_DATA_LIMIT = 1024 * 1024  # bytes: Kubernetes' limit of a ConfigMap's or Secret's values
_PERCENT = re.compile(r"[0-9]{1,9}%")
_WITH_PODS = ("", "apps", "batch")  # groups of kinds whose spec, or template, is a pod's
_TAINT_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def create(row: Row, obj: Object) -> None:
    """Check a new object. Raises InvalidObject with the causes."""
    errors = collect(lambda: metadata(row, obj), lambda: row.strategy.validate(obj)) or for_nodes(row, obj)
    if row.resource == PODS and not errors and _spec(obj).get("ephemeralContainers"):
        errors = [forbidden("spec.ephemeralContainers", "cannot be set on create")]
    _raise(row, obj, errors)


def update(row: Row, new: Object, old: Object) -> None:
    """Check an object against the one that it replaces. Raises InvalidObject with the causes.

    What was stored under rules that had fewer demands may be written again as it is: its labels, its finalizers and its status change on.
    """
    errors = collect(
        lambda: metadata(row, new), lambda: row.strategy.validate_update(new, old), lambda: row.strategy.validate(new)
    )
    if errors:
        known = collect(lambda: row.strategy.validate(old))
        errors = [error for error in errors if error not in known]
    if not errors and _spec(new).get("template") != _spec(old).get("template"):
        errors = for_nodes(row, new)
    _raise(row, new, errors)


def for_nodes(row: Row, obj: Object) -> list[FieldError]:
    """The pod of an object, or of its template, as a node reads it, by the node's own parser: of what is accepted here and refused there, a
    ReplicaSet makes pods without end. What only a node may be unable to do (`Unsupported`) lets the pod wait, and is none of the API's business.
    """
    spec, path = _spec(obj), "spec"
    if isinstance(spec.get("template"), dict):
        spec, path = _spec(spec["template"]), "spec.template.spec"
    if row.resource.group not in _WITH_PODS or not isinstance(spec.get("containers"), list):
        return []
    try:
        parse_pod({"metadata": {"name": "x", "uid": "x"}, "spec": spec})
    except Unsupported:
        return []
    except Invalid as exc:
        where = path + exc.path.removeprefix("spec")
        return [forbidden(where, f"no node can run it: {str(exc).removeprefix(f'{exc.path}: ')}")]
    return []


def _raise(row: Row, obj: Object, errors: list[FieldError]) -> None:
    if errors:
        meta = obj.get("metadata")
        name = meta.get("name") if isinstance(meta, dict) else ""
        raise InvalidObject.of(row.resource, str(name or ""), errors)


def _spec(obj: Object) -> Object:
    spec = obj.get("spec")
    return spec if isinstance(spec, dict) else {}


def pod(obj: Object) -> list[FieldError]:
    """Rules of a Pod."""
    return pod_spec(_spec(obj))


def workload(obj: Object) -> list[FieldError]:
    """Rules that Deployments, ReplicaSets and DaemonSets share."""
    spec = _spec(obj)
    errors: list[FieldError] = Findings()
    for key in ("replicas", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"):
        if isinstance(spec.get(key), int) and spec[key] < 0:
            errors.append(invalid(f"spec.{key}", spec[key], "must be greater than or equal to 0"))
    template = spec.get("template")
    template = template if isinstance(template, dict) else {}
    template_labels = (template.get("metadata") or {}).get("labels") or {}
    selector = spec.get("selector")
    if not selector:
        errors.append(required("spec.selector"))
    else:
        try:
            parsed = selectors.of_selector(selector)
        except Invalid as exc:
            errors.append(invalid("spec.selector", selector, str(exc)))
        else:
            if not parsed.requirements:
                errors.append(
                    invalid(
                        "spec.selector",
                        selector,
                        "empty selector is invalid for " + str(obj.get("kind", "workload")).lower(),
                    )
                )
            elif not parsed.matches(template_labels):
                shown = "{" + ",".join(f'"{k}":"{v}"' for k, v in sorted(template_labels.items())) + "}"
                errors.append(
                    invalid("spec.template.metadata.labels", shown, "`selector` does not match template `labels`")
                )
    errors += labels("spec.template.metadata.labels", template_labels)
    template_spec = template.get("spec") or {}
    errors += pod_spec(template_spec, "spec.template.spec")
    if template_spec.get("restartPolicy") not in (None, "Always"):
        errors.append(unsupported("spec.template.spec.restartPolicy", template_spec["restartPolicy"], ("Always",)))
    return errors


def deployment(obj: Object) -> list[FieldError]:
    """Rules of a Deployment."""
    strategy = _spec(obj).get("strategy") or {}
    errors = workload(obj)
    if strategy.get("type") not in ("RollingUpdate", "Recreate"):
        errors.append(unsupported("spec.strategy.type", strategy.get("type"), ("Recreate", "RollingUpdate")))
    elif strategy["type"] == "Recreate" and strategy.get("rollingUpdate"):
        errors.append(
            forbidden("spec.strategy.rollingUpdate", "may not be specified when strategy `type` is 'Recreate'")
        )
    return errors + _rolling(strategy.get("rollingUpdate") or {}, "spec.strategy.rollingUpdate")


def daemonset(obj: Object) -> list[FieldError]:
    """Rules of a DaemonSet."""
    strategy = _spec(obj).get("updateStrategy") or {}
    errors = workload(obj)
    if strategy.get("type") not in ("RollingUpdate", "OnDelete"):
        errors.append(unsupported("spec.updateStrategy.type", strategy.get("type"), ("OnDelete", "RollingUpdate")))
    return errors + _rolling(strategy.get("rollingUpdate") or {}, "spec.updateStrategy.rollingUpdate")


def _rolling(rolling: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = Findings()
    amounts: list[str] = []
    for key in ("maxUnavailable", "maxSurge"):
        value = rolling.get(key)
        if isinstance(value, str) and not _PERCENT.fullmatch(value):
            errors.append(
                invalid(
                    f"{path}.{key}",
                    value,
                    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%', or '93%')",
                )
            )
        elif isinstance(value, int) and value < 0:
            errors.append(invalid(f"{path}.{key}", value, "must be greater than or equal to 0"))
        amounts.append(str(value))
    if rolling and not errors and all(amount in ("0", "0%") for amount in amounts):
        errors.append(
            invalid(f"{path}.maxUnavailable", rolling.get("maxUnavailable"), "may not be 0 when `maxSurge` is 0")
        )
    return errors


def service(obj: Object) -> list[FieldError]:
    """Rules of a Service."""
    spec = _spec(obj)
    errors: list[FieldError] = Findings()
    errors += validation_sizes.service(spec)
    if spec.get("type") not in ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName"):
        errors.append(
            unsupported("spec.type", spec.get("type"), ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort"))
        )
    if spec.get("type") == "ExternalName":
        if not spec.get("externalName"):
            errors.append(required("spec.externalName"))
    elif not spec.get("ports") and spec.get("clusterIP") != "None":
        errors.append(required("spec.ports"))
    address = spec.get("clusterIP")
    if address and address != "None":
        try:
            address_of(address)
        except ValueError:
            errors.append(
                invalid("spec.clusterIPs[0]", address, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")
            )
    errors += validation_families.service(spec)
    ports = spec.get("ports") if isinstance(spec.get("ports"), list) else []
    names: set[str] = set()
    used: set[tuple[Any, Any]] = set()
    for index, port in enumerate(ports or []):
        path = f"spec.ports[{index}]"
        name = port.get("name")
        if not name:
            if len(ports or []) > 1:
                errors.append(required(f"{path}.name"))
        elif name in names:
            errors.append(duplicate(f"{path}.name", name))
        names.add(name or "")
        errors += [required(f"{path}.port")] if port.get("port") is None else port_number(f"{path}.port", port["port"])
        target = port.get("targetPort")
        if isinstance(target, int):
            errors += port_number(f"{path}.targetPort", target)
        elif target and (len(target) > 15 or not PORT_NAME.fullmatch(target)):
            errors.append(
                invalid(f"{path}.targetPort", target, "must be a port number or the name of a container port")
            )
        if port.get("protocol") not in ("TCP", "UDP", "SCTP"):
            errors.append(unsupported(f"{path}.protocol", port.get("protocol"), ("SCTP", "TCP", "UDP")))
        if (port.get("port"), port.get("protocol")) in used:
            errors.append(duplicate(path, f"{port.get('port')}/{port.get('protocol')}"))
        used.add((port.get("port"), port.get("protocol")))
    return errors + labels("spec.selector", spec.get("selector"))


def _data_keys(obj: Object, *groups: str) -> tuple[list[FieldError], int]:
    errors: list[FieldError] = Findings()
    size = 0
    seen: set[str] = set()
    for group in groups:
        for key, value in (obj.get(group) or {}).items():
            if len(key) > 253 or not CONFIG_KEY.fullmatch(key) or key in (".", "..") or key.startswith(".."):
                errors.append(
                    invalid(
                        f"{group}[{key[:64]}]",
                        key,
                        "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name', "
                        "or 'KEY_NAME', or 'key-name')",
                    )
                )
            if key in seen:
                errors.append(invalid(f"{group}[{key}]", key, "duplicate of key present in data"))
            seen.add(key)
            size += len(str(value).encode())
    return errors, size


def _base64(obj: Object, group: str) -> tuple[list[FieldError], int]:
    errors: list[FieldError] = Findings()
    size = 0
    for key, value in (obj.get(group) or {}).items():
        try:
            size += len(base64.b64decode(value or "", validate=True))
        except (binascii.Error, ValueError):
            errors.append(
                FieldError(
                    f"{group}[{key}]",
                    "Invalid value: illegal base64 data; put plain text into stringData"
                    if group == "data"
                    else "Invalid value: illegal base64 data",
                )
            )
    return errors, size


def configmap(obj: Object) -> list[FieldError]:
    """Rules of a ConfigMap."""
    errors, size = _data_keys(obj, "data", "binaryData")
    errors += _base64(obj, "binaryData")[0]
    return errors + ([too_long("", _DATA_LIMIT)] if size > _DATA_LIMIT else [])


def secret(obj: Object) -> list[FieldError]:
    """Rules of a Secret."""
    errors, _ = _data_keys(obj, "data")
    wrong, size = _base64(obj, "data")
    return errors + wrong + ([too_long("data", _DATA_LIMIT)] if size > _DATA_LIMIT else [])


def node(obj: Object) -> list[FieldError]:
    """Rules of a Node."""
    errors: list[FieldError] = Findings()
    errors += validation_sizes.node(_spec(obj))
    seen: set[tuple[Any, Any]] = set()
    for index, taint in enumerate(_spec(obj).get("taints") or []):
        path = f"spec.taints[{index}]"
        if not taint.get("key"):
            errors.append(required(f"{path}.key"))
        elif not selectors.is_label_key(taint["key"]):
            errors.append(invalid(f"{path}.key", taint["key"], "must be a label key"))
        if taint.get("effect") not in _TAINT_EFFECTS:
            errors.append(unsupported(f"{path}.effect", taint.get("effect"), _TAINT_EFFECTS))
        if (taint.get("key"), taint.get("effect")) in seen:
            errors.append(duplicate(path, f"{taint.get('key')}:{taint.get('effect')}"))
        seen.add((taint.get("key"), taint.get("effect")))
    return errors


def event(obj: Object) -> list[FieldError]:
    """Rules of an Event."""
    involved = obj.get("involvedObject") or {}
    namespace = (obj.get("metadata") or {}).get("namespace")
    if involved.get("namespace") not in (None, "", namespace) and namespace != "default":
        return [invalid("involvedObject.namespace", involved.get("namespace"), "does not match event.namespace")]
    return []


# What an update may not change


def pod_changes(new: Object, old: Object) -> list[FieldError]:
    """What an update of a Pod may not change."""
    return pod_update(new, old)


def endpointslice(obj: Object) -> list[FieldError]:
    """Rules of an EndpointSlice: so many endpoints of one family, each with addresses."""
    errors: list[FieldError] = Findings()
    families = ("FQDN", "IPv4", "IPv6")
    if obj.get("addressType") not in families:
        errors.append(unsupported("addressType", obj.get("addressType"), families))
    endpoints, ports = obj.get("endpoints") or [], obj.get("ports") or []
    for path, value, limit in (("endpoints", endpoints, 1000), ("ports", ports, 100)):
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            errors.append(invalid(path, value, "must be a list of objects"))
        elif len(value) > limit:
            errors.append(invalid(path, len(value), f"must have at most {limit} items"))
    if errors:
        return errors
    for index, endpoint in enumerate(endpoints):
        addresses = endpoint.get("addresses")
        if not isinstance(addresses, list) or not addresses:
            errors.append(required(f"endpoints[{index}].addresses"))
            continue
        for address in addresses if obj["addressType"] != "FQDN" else ():
            if not _is_of_family(address, obj["addressType"]):
                message = f"must be a valid {obj['addressType']} address"
                errors.append(invalid(f"endpoints[{index}].addresses", address, message))
    return errors


def _is_of_family(address: object, family: str) -> bool:
    try:
        return isinstance(address, str) and address_of(address).version == (4 if family == "IPv4" else 6)
    except ValueError:
        return False


def slice_changes(new: Object, old: Object) -> list[FieldError]:
    """The family of its addresses is immutable."""
    if new.get("addressType") != old.get("addressType"):
        return [invalid("addressType", new.get("addressType"), "field is immutable")]
    return []


def workload_changes(new: Object, old: Object) -> list[FieldError]:
    """Errors of an update that changes the selector of a workload, which is immutable."""
    if _spec(new).get("selector") != _spec(old).get("selector"):
        return [invalid("spec.selector", _spec(new).get("selector"), "field is immutable")]
    return []


def service_changes(new: Object, old: Object) -> list[FieldError]:
    """An address that was given is immutable."""
    before, after = _spec(old).get("clusterIP"), _spec(new).get("clusterIP")
    if before and after != before and _spec(new).get("type") != "ExternalName":
        return [invalid("spec.clusterIP", after, "may not change once set")]
    return []


def data_changes(new: Object, old: Object) -> list[FieldError]:
    """What an update of a ConfigMap or a Secret may not change: data of one that is immutable, and that it is."""
    errors: list[FieldError] = Findings()
    if old.get("immutable") is True:
        for key in ("data", "binaryData"):
            if new.get(key) != old.get(key):
                errors.append(forbidden(key, "field is immutable when `immutable` is set"))
        if new.get("immutable") is not True:
            errors.append(forbidden("immutable", "field is immutable when `immutable` is set"))
    return errors


def secret_changes(new: Object, old: Object) -> list[FieldError]:
    """Errors of an update of a Secret: those of data_changes, and a changed type."""
    errors = data_changes(new, old)
    if new.get("type") != old.get("type"):
        errors.append(invalid("type", new.get("type"), "field is immutable"))
    return errors
