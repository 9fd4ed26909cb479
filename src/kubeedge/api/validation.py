"""Rules of pods beyond types: names, required fields, ranges, references inside one object.

Lives here:      pods and their templates, what an update of a pod may change.
Lives elsewhere: types and unknown fields (schema.py), names and metadata (validation_names.py), probes and hooks (validation_actions.py),
                 what a pod asks of its node (node_use.py), lengths of lists (validation_sizes.py), the other kinds (validation_kinds.py).

Called with objects whose types were checked and whose defaults were filled. Every rule says what is wrong in the words
of the Kubernetes API server, because that is what its users search for.
"""

from __future__ import annotations

import json
import re
from typing import Any

from kubeedge.api import node_use, validation_actions, validation_files, validation_sizes
from kubeedge.api.findings import Findings
from kubeedge.api.names import Object
from kubeedge.api.quantities import is_quantity
from kubeedge.api.quantities import parse as parse_quantity
from kubeedge.api.selectors import is_label_key, is_label_value
from kubeedge.api.service_accounts import MAX_POD_TOKENS, counts
from kubeedge.api.status import (
    FieldError,
    duplicate,
    forbidden,
    invalid,
    not_found_value,
    required,
    too_many,
    unsupported,
)
from kubeedge.api.validation_names import (
    PORT_NAME,
    SUBDOMAIN,
    SUBDOMAIN_RULE,
    as_list,
    as_map,
    label,
    labels,
    port_number,
)
from kubeedge.errors import Invalid

_ENV_NAME = re.compile(r"[\x20-\x3c\x3e-\x7e]+")  # printable ASCII except "="


_PROTOCOLS = ("TCP", "UDP", "SCTP")


def pod(spec: Object, path: str = "spec") -> list[FieldError]:
    """A PodSpec, of a pod or of a template."""
    errors: list[FieldError] = Findings()
    errors += validation_sizes.pod(spec, path)
    volumes = _volumes(spec, f"{path}.volumes", errors)
    if not spec.get("containers"):
        errors.append(required(f"{path}.containers"))
    names: set[str] = set()
    sources = node_use.host_paths(spec)
    for group in ("initContainers", "containers", "ephemeralContainers"):
        for index, container in enumerate(as_list(spec.get(group))):
            errors += _container(container, f"{path}.{group}[{index}]", names, volumes)
            for number, mount in enumerate(as_list(container.get("volumeMounts"))):
                errors += node_use.mount_target(mount, sources, f"{path}.{group}[{index}].volumeMounts[{number}]")
    errors += node_use.host_ports(spec, path)
    errors += node_use.sysctls(spec, path)
    errors += _resources(as_map(spec.get("resources")), f"{path}.resources")
    _one_of(errors, f"{path}.restartPolicy", spec.get("restartPolicy"), ("Always", "OnFailure", "Never"))
    _one_of(
        errors,
        f"{path}.dnsPolicy",
        spec.get("dnsPolicy"),
        ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"),
    )
    grace = spec.get("terminationGracePeriodSeconds")
    if grace is not None and grace < 0:
        errors.append(invalid(f"{path}.terminationGracePeriodSeconds", grace, "must be greater than or equal to 0"))
    if spec.get("nodeName") and (len(spec["nodeName"]) > 253 or not SUBDOMAIN.fullmatch(spec["nodeName"])):
        errors.append(invalid(f"{path}.nodeName", spec["nodeName"], SUBDOMAIN_RULE))
    if spec.get("hostname"):
        errors += label(f"{path}.hostname", spec["hostname"])
    errors += labels(f"{path}.nodeSelector", spec.get("nodeSelector"))
    for index, toleration in enumerate(as_list(spec.get("tolerations"))):
        errors += _toleration(toleration, f"{path}.tolerations[{index}]")
    return errors


def _volumes(spec: Object, path: str, errors: list[FieldError]) -> set[str]:
    names: set[str] = set()
    tokens = 0
    for index, volume in enumerate(as_list(spec.get("volumes"))):
        where = f"{path}[{index}]"
        name = volume.get("name")
        if not name:
            errors.append(required(f"{where}.name"))
            continue
        errors += label(f"{where}.name", name)
        if name in names:
            errors.append(duplicate(f"{where}.name", name))
        names.add(name)
        sources = [key for key, value in volume.items() if key != "name" and value is not None]
        if len(sources) > 1:
            errors.append(forbidden(f"{where}.{sorted(sources)[1]}", "may not specify more than 1 volume type"))
        if ".." in str(as_map(volume.get("hostPath")).get("path") or "").split("/"):
            errors.append(invalid(f"{where}.hostPath.path", volume["hostPath"]["path"], "must not contain '..'"))
        for source, key in (("configMap", "name"), ("secret", "secretName"), ("hostPath", "path")):
            if isinstance(volume.get(source), dict) and not volume[source].get(key):
                errors.append(required(f"{where}.{source}.{key}"))
        errors += _size_limit(f"{where}.emptyDir.sizeLimit", as_map(volume.get("emptyDir")).get("sizeLimit"))
        errors += validation_files.files(where, volume)
        projected = as_map(volume.get("projected"))
        errors += validation_files.mode(f"{where}.projected.defaultMode", projected.get("defaultMode"))
        for number, source in enumerate(as_list(projected.get("sources"))):
            errors += validation_files.files(f"{where}.projected.sources[{number}]", as_map(source))
            tokens += "serviceAccountToken" in as_map(source) and counts(as_map(source["serviceAccountToken"]))
    if tokens > MAX_POD_TOKENS:
        errors.append(too_many(f"{path}[*].projected.sources[*].serviceAccountToken", tokens, MAX_POD_TOKENS))
    return names


def _size_limit(path: str, value: Any) -> list[FieldError]:
    """A negative one is exceeded by an empty volume: the node would evict the pod, its controller make another one, and so on."""
    if is_quantity(value) and parse_quantity(value) < 0:
        return [invalid(path, value, "must be greater than or equal to 0")]
    return []


def _container(container: Object, path: str, names: set[str], volumes: set[str]) -> list[FieldError]:
    errors: list[FieldError] = Findings()
    name = container.get("name")
    if not name:
        errors.append(required(f"{path}.name"))
    else:
        errors += label(f"{path}.name", name)
        if name in names:
            errors.append(duplicate(f"{path}.name", name))
        names.add(name)
    image = container.get("image")
    if not image:
        errors.append(required(f"{path}.image"))
    elif image != image.strip():
        errors.append(invalid(f"{path}.image", image, "must not have leading or trailing whitespace"))
    _one_of(errors, f"{path}.imagePullPolicy", container.get("imagePullPolicy"), ("Always", "IfNotPresent", "Never"))
    errors += _ports(container, f"{path}.ports")
    errors += _environment(container, path)
    errors += _resources(as_map(container.get("resources")), f"{path}.resources")
    mounted: set[str] = set()
    for index, mount in enumerate(as_list(container.get("volumeMounts"))):
        errors += _mount(mount, f"{path}.volumeMounts[{index}]", volumes, mounted)
    errors += validation_actions.actions(container, path)
    return errors


def _mount(mount: Object, path: str, volumes: set[str], mounted: set[str]) -> list[FieldError]:
    errors: list[FieldError] = Findings()
    if not mount.get("name"):
        errors.append(required(f"{path}.name"))
    elif mount["name"] not in volumes:
        errors.append(not_found_value(f"{path}.name", mount["name"]))
    target = mount.get("mountPath")
    if not target:
        errors.append(required(f"{path}.mountPath"))
    elif target in mounted:
        errors.append(invalid(f"{path}.mountPath", target, "must be unique"))
    else:
        mounted.add(target)
    for key in ("subPath", "subPathExpr"):
        if mount.get(key):
            errors += validation_files.relative(f"{path}.{key}", mount[key])
    return errors


def _ports(container: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = Findings()
    names: set[str] = set()
    for index, port in enumerate(as_list(container.get("ports"))):
        where = f"{path}[{index}]"
        if port.get("containerPort") is None:
            errors.append(required(f"{where}.containerPort"))
        else:
            errors += port_number(f"{where}.containerPort", port["containerPort"])
        if port.get("hostPort"):
            errors += port_number(f"{where}.hostPort", port["hostPort"])
        name = port.get("name")
        if name:
            if len(name) > 15 or not PORT_NAME.fullmatch(name):
                errors.append(
                    invalid(
                        f"{where}.name",
                        name,
                        "must be at most 15 characters of a-z, 0-9 and '-', with at least one letter",
                    )
                )
            if name in names:
                errors.append(duplicate(f"{where}.name", name))
            names.add(name)
        _one_of(errors, f"{where}.protocol", port.get("protocol"), _PROTOCOLS)
    return errors


def _environment(container: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = Findings()
    for index, variable in enumerate(as_list(container.get("env"))):
        where = f"{path}.env[{index}]"
        name = variable.get("name")
        if not name:
            errors.append(required(f"{where}.name"))
        elif not _ENV_NAME.fullmatch(name):
            errors.append(
                invalid(
                    f"{where}.name",
                    name,
                    "a valid environment variable name must consist only of printable ASCII characters other than '='",
                )
            )
        source = variable.get("valueFrom")
        if isinstance(source, dict):
            if variable.get("value"):
                errors.append(invalid(f"{where}.valueFrom", "", "may not be specified when `value` is not empty"))
            if sum(value is not None for value in source.values()) != 1:
                errors.append(
                    invalid(
                        f"{where}.valueFrom",
                        "",
                        "must specify exactly one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
                    )
                )
            for kind in ("configMapKeyRef", "secretKeyRef"):
                if isinstance(source.get(kind), dict):
                    errors += [
                        required(f"{where}.valueFrom.{kind}.{key}")
                        for key in ("name", "key")
                        if not source[kind].get(key)
                    ]
    return errors


def _resources(resources: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = Findings()
    limits = as_map(resources.get("limits"))
    for group in ("limits", "requests"):
        for name, amount in as_map(resources.get(group)).items():
            try:
                value = parse_quantity(amount)
            except Invalid:
                continue  # the type check has said so
            if value < 0:
                errors.append(invalid(f"{path}.{group}.{name}", amount, "must be greater than or equal to 0"))
            elif group == "requests" and name in limits and amount != limits[name]:
                try:
                    over = value > parse_quantity(limits[name])
                except Invalid:
                    continue
                if over:
                    errors.append(
                        invalid(
                            f"{path}.requests", amount, f"must be less than or equal to {name} limit of {limits[name]}"
                        )
                    )
    return errors


def _toleration(toleration: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = Findings()
    operator = toleration.get("operator") or "Equal"
    _one_of(errors, f"{path}.operator", operator, ("Equal", "Exists"))
    if toleration.get("effect"):
        _one_of(errors, f"{path}.effect", toleration["effect"], ("NoSchedule", "PreferNoSchedule", "NoExecute"))
    key, value, seconds = (toleration.get(name) for name in ("key", "value", "tolerationSeconds"))
    if key and not is_label_key(key):
        errors.append(invalid(f"{path}.key", key, "must be the key of a label"))
    if operator == "Exists" and value:
        errors.append(invalid(f"{path}.operator", value, "value must be empty when `operator` is 'Exists'"))
    elif value and not is_label_value(value):
        errors.append(invalid(f"{path}.operator", value, "must be the value of a label"))
    if seconds is not None and toleration.get("effect") != "NoExecute":
        message = "effect must be 'NoExecute' when `tolerationSeconds` is set"
        errors.append(invalid(f"{path}.effect", toleration.get("effect") or "", message))
    if not key and operator != "Exists":
        errors.append(
            invalid(
                f"{path}.operator",
                operator,
                'operator must be Exists when `key` is empty, which means "match all values and all keys"',
            )
        )
    return errors


def _one_of(errors: list[FieldError], path: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value is not None and value not in allowed:
        errors.append(unsupported(path, value, sorted(allowed)))


def _identity(toleration: Object) -> str:
    """Tolerations that are equal but for their end have equal texts: looking for 10,000 of them must not cost their square."""
    same = {key: v for key, v in as_map(toleration).items() if key != "tolerationSeconds"}
    return json.dumps(same, sort_keys=True)


def pod_update(new: Object, old: Object) -> list[FieldError]:
    """A pod's spec is fixed, but for the images, the deadline, more tolerations, and the node once (binding)."""

    def fixed(value: Any) -> Object:
        spec: Object = dict(as_map(value))
        for key in ("activeDeadlineSeconds", "tolerations", "schedulingGates"):
            spec.pop(key, None)
        for group in ("initContainers", "containers"):
            spec[group] = [{k: v for k, v in c.items() if k != "image"} for c in as_list(spec.get(group))]
        return spec

    before, after = fixed(old.get("spec")), fixed(new.get("spec"))
    if not before.get("nodeName"):
        before.pop("nodeName", None)
        after.pop("nodeName", None)
    # An unnamed grace period may be set once; everything else must be as it was.
    if before != after:
        return [
            forbidden(
                "spec",
                "pod updates may not change fields other than `spec.containers[*].image`,"
                "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to "
                "existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was "
                "previously negative)",
            )
        ]
    kept = set(map(_identity, as_list(as_map(new.get("spec")).get("tolerations"))))
    if any(_identity(toleration) not in kept for toleration in as_list(as_map(old.get("spec")).get("tolerations"))):
        return [forbidden("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds")]
    return []
