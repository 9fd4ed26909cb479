"""A container of a Pod from its JSON, once and strictly. Raises Invalid with the field's path, Unsupported for what this node cannot do."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from kubeedge.api import probe_parser, quantities
from kubeedge.api.json_fields import (
    UnknownValue,
    check_text,
    check_texts,
    mapping_of,
    read,
    read_choice,
    read_id,
    read_list,
    read_mapping,
    read_name,
    read_path,
    read_quantity,
    read_texts,
)
from kubeedge.api.pod import (
    Container,
    EnvFrom,
    EnvVar,
    Mount,
    Port,
    ResourceRequirements,
    RestartRule,
    Security,
    Unsupported,
)
from kubeedge.errors import Invalid
from kubeedge.kit.ip import address_of

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
RESTART_POLICIES = ("Always", "OnFailure", "Never")
_MAX_RULES, _MAX_CODES = 20, 255  # as in Kubernetes
_HUGE_PAGES = "hugepages-"
_ENV_NAME = re.compile(r"[ -<>-~]{1,1024}")  # of a key of a file: anything printable but "="
_MAX_PATH = 4096
_APP_ARMOR_NAME = re.compile(r"[!-~]{1,4095}")
_PROFILE_KINDS = ("RuntimeDefault", "Localhost", "Unconfined")


def container(item: Any, path: str, pod_security: Mapping[str, Any], *, kind: str = "containers") -> Container:
    """`kind` is the list of the PodSpec that it is of: containers, initContainers or ephemeralContainers."""
    made = _container(item, path, pod_security, kind)
    if not made.security.privileged and any(m.propagation == "Bidirectional" for m in made.mounts):
        raise Invalid("mountPropagation Bidirectional is for privileged containers", path=f"{path}.volumeMounts")
    if made.is_ephemeral and (made.ports or made.liveness or made.readiness or made.startup or made.restart_rules):
        raise Invalid("an ephemeral container has no ports, probes and restart rules", path=path)
    return made


def _container(item: Any, path: str, pod_security: Mapping[str, Any], kind: str) -> Container:
    c = mapping_of(item, path)
    image = read(c, "image", str, path, "")
    if not image:
        raise Invalid("required", path=f"{path}.image")
    latest = ":" not in image.rsplit("/", 1)[-1] or image.endswith(":latest")
    policy = "Always" if latest and "@" not in image else "IfNotPresent"
    if read_list(c, "volumeDevices", path):
        raise Unsupported("block volumes are not supported here", path=f"{path}.volumeDevices")
    lifecycle = read_mapping(c, "lifecycle", path)
    restart_policy = read_choice(c, "restartPolicy", path, ("", *RESTART_POLICIES))
    sidecar = kind == "initContainers" and restart_policy == "Always"
    return Container(
        name=read_name(c, "name", path, LABEL),
        image=image,
        pull_policy=read_choice(c, "imagePullPolicy", path, (policy, "Always", "IfNotPresent", "Never")),
        command=read_texts(c, "command", path),
        args=read_texts(c, "args", path),
        working_dir=_working_dir(c, path),
        env=tuple(_env(e, f"{path}.env[{n}]") for n, e in enumerate(read_list(c, "env", path))),
        env_from=tuple(_env_from(e, f"{path}.envFrom[{n}]") for n, e in enumerate(read_list(c, "envFrom", path))),
        mounts=tuple(_mount(m, f"{path}.volumeMounts[{n}]") for n, m in enumerate(read_list(c, "volumeMounts", path))),
        ports=tuple(_port(p, f"{path}.ports[{n}]") for n, p in enumerate(read_list(c, "ports", path))),
        resources=resource_requirements(read_mapping(c, "resources", path), f"{path}.resources"),
        security=_security(read_mapping(c, "securityContext", path), pod_security, path),
        liveness=probe_parser.probe(c.get("livenessProbe"), f"{path}.livenessProbe"),
        readiness=probe_parser.probe(c.get("readinessProbe"), f"{path}.readinessProbe"),
        startup=probe_parser.probe(c.get("startupProbe"), f"{path}.startupProbe"),
        termination_message_path=read_path(c, "terminationMessagePath", path, "/dev/termination-log"),
        tty=read(c, "tty", bool, path, False),
        stdin=read(c, "stdin", bool, path, False),
        stdin_once=read(c, "stdinOnce", bool, path, False),
        sidecar=sidecar,
        restart_policy="" if sidecar else restart_policy,
        restart_rules=_restart_rules(c, path, restart_policy, sidecar),
        log_is_message=read_choice(c, "terminationMessagePolicy", path, ("File", "FallbackToLogsOnError")) != "File",
        post_start=probe_parser.hook(lifecycle, "postStart", path),
        pre_stop=probe_parser.hook(lifecycle, "preStop", path),
        stop_signal=_stop_signal(lifecycle, path),
        resize_restarts=_resize_restarts(c, path),
        is_ephemeral=kind == "ephemeralContainers",
        target=read(c, "targetContainerName", str, path, ""),
    )


def _working_dir(c: Mapping[str, Any], path: str) -> str:
    """No runtime starts a process in a directory that is relative to nothing."""
    directory = read(c, "workingDir", str, path, "")
    if directory and not directory.startswith("/"):
        raise Invalid(f"{directory!r:.80} is not an absolute path", path=f"{path}.workingDir")
    return directory


def resource_requirements(resources: Mapping[str, Any], path: str) -> ResourceRequirements:
    """Limits and requests. Raises Invalid."""
    limits, requests = read_mapping(resources, "limits", path), read_mapping(resources, "requests", path)
    cpu = read_quantity(limits, "cpu", f"{path}.limits", quantities.millicores)
    request = read_quantity(requests, "cpu", f"{path}.requests", quantities.millicores)
    return ResourceRequirements(
        cpu,
        read_quantity(limits, "memory", f"{path}.limits", quantities.bytes_of),
        (request if request is not None else cpu) or 0,  # a request of 0 is one
        read_quantity(requests, "memory", f"{path}.requests", quantities.bytes_of) or 0,
        {
            name.removeprefix(_HUGE_PAGES): read_quantity(limits, name, f"{path}.limits", quantities.bytes_of) or 0
            for name in limits
            if name.startswith(_HUGE_PAGES)
        },
        {
            name: read_quantity(limits, name, f"{path}.limits", _whole) or 0
            for name in limits
            if "/" in name and not is_native(name)
        },
    )


def is_native(resource: str) -> bool:
    """One of Kubernetes itself, whose domain is its own."""
    domain = resource.partition("/")[0]
    return domain == "kubernetes.io" or domain.endswith(".kubernetes.io")


def _whole(text: Any) -> int:
    """Of what cannot be shared. Raises Invalid."""
    if (thousandths := quantities.millicores(text)) % 1000:
        raise Invalid(f"{text!r:.40} is no whole number")
    return thousandths // 1000


def _security(own: Mapping[str, Any], of_pod: Mapping[str, Any], path: str) -> Security:
    path = f"{path}.securityContext"
    capabilities = read_mapping(own, "capabilities", path)
    merged = {**{k: of_pod[k] for k in ("runAsUser", "runAsGroup", "runAsNonRoot") if k in of_pod}, **own}
    return Security(
        read_id(merged, "runAsUser", path),
        read_id(merged, "runAsGroup", path),
        bool(merged.get("runAsNonRoot")),
        read(own, "privileged", bool, path, False),
        read(own, "readOnlyRootFilesystem", bool, path, False),
        read(own, "allowPrivilegeEscalation", bool, path, True),
        tuple(read_texts(capabilities, "add", path) or ()),
        tuple(read_texts(capabilities, "drop", path) or ()),
        *_seccomp(_inherited("seccompProfile", own, of_pod), path),
        *_app_armor(_inherited("appArmorProfile", own, of_pod), path),
        read_choice(own, "procMount", path, ("Default", "Unmasked")) == "Unmasked",
    )


def _inherited(key: str, own: Mapping[str, Any], of_pod: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: own.get(key) or of_pod.get(key)}


def _seccomp(security: Mapping[str, Any], path: str) -> tuple[str, str]:
    kind, file = _profile(security, "seccompProfile", path)
    if file.startswith("/") or ".." in file.split("/") or "\0" in file:
        where = f"{path}.seccompProfile.localhostProfile"
        raise Invalid(f"{file!r:.80} is not a path below the node's profiles", path=where)
    return kind, file


def _app_armor(security: Mapping[str, Any], path: str) -> tuple[str, str]:
    kind, name = _profile(security, "appArmorProfile", path)
    if name and not _APP_ARMOR_NAME.fullmatch(name):
        where = f"{path}.appArmorProfile.localhostProfile"
        raise Invalid(f"{name!r:.80} is not the name of a profile", path=where)
    return kind, name


def _profile(security: Mapping[str, Any], key: str, path: str) -> tuple[str, str]:
    profile = read_mapping(security, key, path)
    where = f"{path}.{key}"
    if not profile:
        return "", ""
    kind = read(profile, "type", str, where, "")
    if kind not in _PROFILE_KINDS:
        raise UnknownValue(f"{kind!r:.60} is none of {', '.join(_PROFILE_KINDS)}", path=f"{where}.type")
    local = read(profile, "localhostProfile", str, where, "")
    if (kind == "Localhost") != bool(local):
        raise Invalid("goes with type Localhost, and only with it", path=f"{where}.localhostProfile")
    return kind, local


def _restart_rules(c: Mapping[str, Any], path: str, policy: str, sidecar: bool) -> Sequence[RestartRule]:
    items, where = read_list(c, "restartPolicyRules", path), f"{path}.restartPolicyRules"
    if items and not policy:
        raise Invalid("required with restartPolicyRules", path=f"{path}.restartPolicy")
    if items and sidecar:
        raise Invalid("a sidecar is always restarted", path=where)
    if len(items) > _MAX_RULES:
        raise Invalid(f"more than {_MAX_RULES} rules", path=where)
    return tuple(_restart_rule(item, f"{where}[{n}]") for n, item in enumerate(items))


def _restart_rule(item: Any, path: str) -> RestartRule:
    rule = mapping_of(item, path)
    if read_choice(rule, "action", path, ("", "Restart", "RestartAllContainers")) != "Restart":
        raise Unsupported(f"{rule.get('action')!r:.60} is not supported here", path=f"{path}.action")
    where = f"{path}.exitCodes"
    on = read_mapping(rule, "exitCodes", path)
    operator = read_choice(on, "operator", where, ("", "In", "NotIn"))
    values = read_list(on, "values", where)
    if not operator:
        raise Invalid("required", path=f"{where}.operator")
    if not 0 < len(values) <= _MAX_CODES or not all(type(v) is int and 0 <= v <= 255 for v in values):
        raise Invalid(f"must be 1 to {_MAX_CODES} exit codes", path=f"{where}.values")
    return RestartRule(frozenset(values), operator == "In")


def _stop_signal(lifecycle: Mapping[str, Any], path: str) -> str:
    name = read(lifecycle, "stopSignal", str, f"{path}.lifecycle", "")
    real_time = re.fullmatch(r"SIGRTM(IN|AX)([+-][0-9]{1,2})?", name)
    if name and not real_time and not (name.startswith("SIG") and name in signal.Signals.__members__):
        raise Invalid(f"{name!r:.60} is not a signal", path=f"{path}.lifecycle.stopSignal")
    return name


def _resize_restarts(c: Mapping[str, Any], path: str) -> frozenset[str]:
    restarts = set()
    for n, item in enumerate(read_list(c, "resizePolicy", path)):
        where = f"{path}.resizePolicy[{n}]"
        policy = mapping_of(item, where)
        resource = read_choice(policy, "resourceName", where, ("", "cpu", "memory"))
        if read_choice(policy, "restartPolicy", where, ("NotRequired", "RestartContainer")) == "RestartContainer":
            restarts.add(resource)
    return frozenset(restarts)


def _mount(item: Any, path: str) -> Mount:
    m = mapping_of(item, path)
    mount = Mount(
        read(m, "name", str, path, ""),
        read_path({"mountPath": _absolute(m.get("mountPath"))}, "mountPath", path),
        read(m, "readOnly", bool, path, False),
        read(m, "subPath", str, path, "") or read(m, "subPathExpr", str, path, ""),
        bool(m.get("subPathExpr")) and not m.get("subPath"),
        read_choice(m, "mountPropagation", path, ("None", "HostToContainer", "Bidirectional")),
        read_choice(m, "recursiveReadOnly", path, ("Disabled", "IfPossible", "Enabled")),
    )
    if mount.recursive_read_only != "Disabled" and (not mount.read_only or mount.propagation != "None"):
        raise Invalid("only with readOnly, and without mountPropagation", path=f"{path}.recursiveReadOnly")
    return mount


def _absolute(path: Any) -> Any:
    """A relative path is one from the root of the container, as for the kubelet."""
    return "/" + path if isinstance(path, str) and path and not path.startswith("/") else path


def _port(item: Any, path: str) -> Port:
    p = mapping_of(item, path)
    port = Port(
        read(p, "name", str, path, ""),
        read(p, "containerPort", int, path, 0),
        read(p, "hostPort", int, path, 0),
        read(p, "hostIP", str, path, ""),
        read_choice(p, "protocol", path, ("TCP", "UDP", "SCTP")),
    )
    if not 0 < port.container < 65536 or not 0 <= port.host < 65536:
        raise Invalid(f"{port.host or port.container} is not a port", path=path)
    if port.host_ip:
        check_ip(port.host_ip, f"{path}.hostIP")
    return port


def _env(item: Any, path: str) -> EnvVar:
    e = mapping_of(item, path)
    source = e.get("valueFrom")
    value = e.get("value")
    if source is not None and not isinstance(source, dict):
        raise Invalid("not an object", path=f"{path}.valueFrom")
    name = read(e, "name", str, path, "")
    if not name or "=" in name:
        raise Invalid(f"{name!r:.80} is not the name of a variable", path=f"{path}.name")
    if value is not None:
        check_text(value := str(value), f"{path}.value")
    check_texts(source, f"{path}.valueFrom")
    if source and "fileKeyRef" in source:
        _check_file_key(read_mapping(source, "fileKeyRef", f"{path}.valueFrom"), f"{path}.valueFrom.fileKeyRef")
    return EnvVar(name, value, source)


def _check_file_key(ref: Mapping[str, Any], path: str) -> None:
    """That the volume is an emptyDir says pod_parser.py."""
    read_name(ref, "volumeName", path, LABEL)
    file, key = read(ref, "path", str, path, ""), read(ref, "key", str, path, "")
    if not file or file.startswith("/") or ".." in file.split("/") or len(file) > _MAX_PATH:
        raise Invalid(f"{file!r:.80} is not a path in a volume", path=f"{path}.path")
    if not _ENV_NAME.fullmatch(key):
        raise Invalid(f"{key!r:.80} is not the name of a variable", path=f"{path}.key")
    read(ref, "optional", bool, path, False)


def _env_from(item: Any, path: str) -> EnvFrom:
    e = mapping_of(item, path)
    if unknown := e.keys() - {"configMapRef", "secretRef", "prefix"}:
        raise UnknownValue(f"{min(unknown)!r:.60} is none of configMapRef, secretRef", path=path)
    kind, ref = (
        ("configmaps", read_mapping(e, "configMapRef", path))
        if "configMapRef" in e
        else ("secrets", read_mapping(e, "secretRef", path))
    )
    prefix = read(e, "prefix", str, path, "")
    if "=" in prefix:
        raise Invalid(f"{prefix!r:.80} does not begin the name of a variable", path=f"{path}.prefix")
    return EnvFrom(kind, str(ref.get("name", "")), prefix, bool(ref.get("optional")))


def check_ip(text: str, path: str) -> None:
    """Raises Invalid when `text` is no IP address."""
    try:
        address_of(text)
    except ValueError as exc:
        raise Invalid(f"{text!r:.60} is not an IP address", path=path) from exc
