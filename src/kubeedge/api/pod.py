"""What a node understands of a Pod: parsed once, strictly, into frozen values. The API refuses what this refuses (validation_kinds.py).

Raises Invalid with the field's path ("spec.containers[0].image"). Fields that are not understood are listed in `Pod.unsupported`; they
become an event, not a crash. Names that become paths, arguments or lines of a file are checked here, whoever wrote the pod.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from kubeedge.api import pod_fields, quantities
from kubeedge.api.names import Object
from kubeedge.errors import Invalid

T = TypeVar("T")


class Unsupported(Invalid):
    """Well-formed, and Kubernetes can do it, but this node cannot: the pod waits, as with the kubelet, and is not Failed, for then its
    controller would make another one, and another one."""


@dataclass(frozen=True, slots=True)
class EnvVar:
    name: str
    value: str | None  # literal, with $(NAME) references
    source: Mapping[str, Any] | None  # valueFrom


@dataclass(frozen=True, slots=True)
class EnvFrom:
    kind: str  # "configmaps" or "secrets"
    name: str
    prefix: str
    optional: bool


@dataclass(frozen=True, slots=True)
class Mount:
    name: str
    path: str
    read_only: bool
    sub_path: str
    is_expression: bool = False  # sub_path has $(NAME) of the container's environment


@dataclass(frozen=True, slots=True)
class Probe:
    kind: str  # "exec", "http", "tcp", "grpc"
    command: Sequence[str] = ()
    path: str = "/"
    port: int | str = 0
    host: str = ""
    headers: Sequence[tuple[str, str]] = ()
    initial_delay: float = 0.0  # seconds
    period: float = 10.0
    timeout: float = 1.0
    failure_threshold: int = 3
    success_threshold: int = 1
    grace: float | None = None  # seconds from a failure to SIGKILL; None: the pod's
    service: str = ""  # of grpc


@dataclass(frozen=True, slots=True)
class Resources:
    cpu_limit: int | None  # millicores
    memory_limit: int | None  # bytes
    cpu_request: int
    memory_request: int


@dataclass(frozen=True, slots=True)
class Security:
    user: int | None
    group: int | None
    non_root: bool
    privileged: bool
    read_only_root: bool
    escalation: bool
    add: Sequence[str]
    drop: Sequence[str]
    seccomp: str = ""  # "RuntimeDefault", "Localhost", "Unconfined" or ""
    seccomp_profile: str = ""  # of Localhost: a file below the node's directory of profiles


@dataclass(frozen=True, slots=True)
class Port:
    name: str
    container: int
    host: int = 0  # 0: not on the node
    host_ip: str = ""
    protocol: str = "TCP"


@dataclass(frozen=True, slots=True)
class Container:
    name: str
    image: str
    pull_policy: str
    command: Sequence[str] | None
    args: Sequence[str] | None
    working_dir: str
    env: Sequence[EnvVar]
    env_from: Sequence[EnvFrom]
    mounts: Sequence[Mount]
    ports: Sequence[Port]
    resources: Resources
    security: Security
    liveness: Probe | None
    readiness: Probe | None
    startup: Probe | None
    termination_message_path: str
    tty: bool
    stdin: bool
    sidecar: bool = False  # an init container that goes on: it is started before the next one, and restarted
    restart_policy: str = ""  # its own; "" is the pod's
    log_is_message: bool = False  # of a failure that left no message: the end of its log
    post_start: Sequence[str] = ()  # commands; () is none
    pre_stop: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Volume:
    name: str
    kind: str  # "configMap", "secret", "emptyDir", "hostPath", "projected", "downwardAPI"
    source: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Pod:
    namespace: str
    name: str
    uid: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    deleting: bool
    grace: float  # seconds that containers have to end, once the pod is deleted
    restart_policy: str
    host_network: bool
    hostname: str
    host_aliases: Sequence[tuple[str, Sequence[str]]]
    fs_group: int | None
    groups: Sequence[int]  # supplementalGroups
    init_containers: Sequence[Container]
    containers: Sequence[Container]
    volumes: Mapping[str, Volume]
    pull_secrets: Sequence[str]
    service_account: str
    dns: Mapping[str, Any] = field(default_factory=dict)
    has_finalizers: bool = False  # it stays in the API when nothing of it is left here
    dns_policy: str = "ClusterFirst"
    subdomain: str = ""
    unsupported: Sequence[str] = ()

    @property
    def all_containers(self) -> Sequence[Container]:
        return (*self.init_containers, *self.containers)

    @property
    def sidecars(self) -> Sequence[Container]:
        return tuple(c for c in self.init_containers if c.sidecar)

    @property
    def host_ports(self) -> Sequence[Port]:
        if self.host_network:
            return ()
        return tuple(port for c in self.all_containers for port in c.ports if port.host)


_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_UID = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9]{0,62}[A-Za-z0-9])?")
_HOSTNAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9.]{0,251}[A-Za-z0-9])?")
_DNS_OPTION = re.compile(r"[a-z0-9][-a-z0-9]{0,62}(:[-a-z0-9.]{1,63})?")
_MAX_ID = 2**31 - 1
_MAX_GRACE = 365 * 24 * 3600  # seconds; longer is a mistake
_RESTART_POLICIES = ("Always", "OnFailure", "Never")
VOLUME_KINDS = ("configMap", "secret", "emptyDir", "hostPath", "projected", "downwardAPI")


def parse(obj: Object) -> Pod:
    meta, spec = _dict(obj, "metadata", ""), _dict(obj, "spec", "")
    pod_security = _dict(spec, "securityContext", "spec")
    if not _get(spec, "hostUsers", bool, "spec", True):
        raise Unsupported("user namespaces are not supported here", path="spec.hostUsers")
    volumes: dict[str, Volume] = {}
    for n, item in enumerate(_list(spec, "volumes", "spec")):
        volume = _volume(item, f"spec.volumes[{n}]")
        if volume.name in volumes:
            raise Invalid(f"{volume.name!r} is there twice", path=f"spec.volumes[{n}].name")
        volumes[volume.name] = volume
    main, init = _list(spec, "containers", "spec"), _list(spec, "initContainers", "spec")
    if not main:
        raise Invalid("required", path="spec.containers")
    name = _name(meta, "name", "metadata", _SUBDOMAIN)
    grace = meta.get("deletionGracePeriodSeconds", spec.get("terminationGracePeriodSeconds"))
    pod = Pod(
        namespace=_name(meta, "namespace", "metadata", _LABEL, "default"),
        name=name,
        uid=_name(meta, "uid", "metadata", _UID),
        labels=_strings(meta, "labels", "metadata"),
        annotations=_strings(meta, "annotations", "metadata"),
        deleting=bool(meta.get("deletionTimestamp")),
        grace=_seconds(grace, "spec.terminationGracePeriodSeconds"),
        restart_policy=_choice(spec, "restartPolicy", "spec", _RESTART_POLICIES),
        host_network=_get(spec, "hostNetwork", bool, "spec", False),
        hostname=_name(spec, "hostname", "spec", _LABEL, name[:63].rstrip("-.")),
        host_aliases=tuple(
            _host_alias(a, f"spec.hostAliases[{n}]") for n, a in enumerate(_list(spec, "hostAliases", "spec"))
        ),
        fs_group=_optional_int(pod_security, "fsGroup", "spec.securityContext"),
        groups=tuple(_ids(pod_security, "supplementalGroups", "spec.securityContext")),
        init_containers=tuple(
            _container(c, f"spec.initContainers[{n}]", pod_security, is_init=True) for n, c in enumerate(init)
        ),
        containers=tuple(_container(c, f"spec.containers[{n}]", pod_security) for n, c in enumerate(main)),
        volumes=volumes,
        pull_secrets=tuple(
            str(_dict_item(s, "spec.imagePullSecrets").get("name", "")) for s in _list(spec, "imagePullSecrets", "spec")
        ),
        service_account=_get(spec, "serviceAccountName", str, "spec", "default"),
        dns=_dns(spec),
        has_finalizers=bool(meta.get("finalizers")),
        dns_policy=_get(spec, "dnsPolicy", str, "spec", "ClusterFirst"),
        subdomain=_subdomain(spec),
        unsupported=tuple(pod_fields.without_effect(spec)),
    )
    names = set()
    for container in pod.all_containers:
        if container.name in names:
            raise Invalid(f"{container.name!r} is there twice", path="spec.containers")
        names.add(container.name)
        for mount in container.mounts:
            if mount.name not in volumes:
                raise Invalid(
                    f"volume {mount.name!r} of container {container.name!r} is not defined", path="spec.volumes"
                )
    return pod


def _host_alias(item: Any, path: str) -> tuple[str, Sequence[str]]:
    alias = _dict_item(item, path)
    ip, names = str(alias.get("ip") or ""), _string_list(alias, "hostnames", path) or []
    _check_ip(ip, f"{path}.ip")
    for name in names:
        if not _HOSTNAME.fullmatch(name):
            raise Invalid(f"{name!r:.80} is not a host name", path=f"{path}.hostnames")
    return ip, tuple(names)


def _dns(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """nameservers and searches of dnsConfig, checked: they become lines of a file."""
    dns = _dict(spec, "dnsConfig", "spec")
    servers = _string_list(dns, "nameservers", "spec.dnsConfig") or []
    for server in servers:
        _check_ip(server, "spec.dnsConfig.nameservers")
    searches = _string_list(dns, "searches", "spec.dnsConfig") or []
    for search in searches:
        if not _HOSTNAME.fullmatch(search.rstrip(".")):
            raise Invalid(f"{search!r:.80} is not a domain", path="spec.dnsConfig.searches")
    options = [
        _dns_option(o, f"spec.dnsConfig.options[{n}]") for n, o in enumerate(_list(dns, "options", "spec.dnsConfig"))
    ]
    return {"nameservers": servers, "searches": searches, "options": options}


def _dns_option(item: Any, path: str) -> str:
    option = _dict_item(item, path)
    text = ":".join(str(option[key]) for key in ("name", "value") if option.get(key) not in (None, ""))
    if not _DNS_OPTION.fullmatch(text):
        raise Invalid(f"{text!r:.80} is not an option of a resolver", path=path)
    return text


def _subdomain(spec: Mapping[str, Any]) -> str:
    return _name(spec, "subdomain", "spec", _LABEL) if spec.get("subdomain") else ""


def _container(item: Any, path: str, pod_security: Mapping[str, Any], *, is_init: bool = False) -> Container:
    c = _dict_item(item, path)
    own = _dict(c, "securityContext", path)
    capabilities = _dict(own, "capabilities", path)
    merged = {**{k: pod_security[k] for k in ("runAsUser", "runAsGroup", "runAsNonRoot") if k in pod_security}, **own}
    resources = _dict(c, "resources", path)
    limits, requests = _dict(resources, "limits", path), _dict(resources, "requests", path)
    image = _get(c, "image", str, path, "")
    if not image:
        raise Invalid("required", path=f"{path}.image")
    latest = ":" not in image.rsplit("/", 1)[-1] or image.endswith(":latest")
    policy = "Always" if latest and "@" not in image else "IfNotPresent"
    lifecycle = _dict(c, "lifecycle", path)
    return Container(
        name=_name(c, "name", path, _LABEL),
        image=image,
        pull_policy=_choice(c, "imagePullPolicy", path, (policy, "Always", "IfNotPresent", "Never")),
        command=_string_list(c, "command", path),
        args=_string_list(c, "args", path),
        working_dir=_get(c, "workingDir", str, path, ""),
        env=tuple(_env(e, f"{path}.env[{n}]") for n, e in enumerate(_list(c, "env", path))),
        env_from=tuple(_env_from(e, f"{path}.envFrom[{n}]") for n, e in enumerate(_list(c, "envFrom", path))),
        mounts=tuple(_mount(m, f"{path}.volumeMounts[{n}]") for n, m in enumerate(_list(c, "volumeMounts", path))),
        ports=tuple(_port(p, f"{path}.ports[{n}]") for n, p in enumerate(_list(c, "ports", path))),
        resources=Resources(
            _quantity(limits, "cpu", f"{path}.resources.limits", quantities.millicores),
            _quantity(limits, "memory", f"{path}.resources.limits", quantities.bytes_of),
            _quantity(requests, "cpu", f"{path}.resources.requests", quantities.millicores)
            or _quantity(limits, "cpu", f"{path}.resources.limits", quantities.millicores)
            or 0,
            _quantity(requests, "memory", f"{path}.resources.requests", quantities.bytes_of) or 0,
        ),
        security=Security(
            _optional_int(merged, "runAsUser", path),
            _optional_int(merged, "runAsGroup", path),
            bool(merged.get("runAsNonRoot")),
            _get(own, "privileged", bool, path, False),
            _get(own, "readOnlyRootFilesystem", bool, path, False),
            _get(own, "allowPrivilegeEscalation", bool, path, True),
            tuple(_string_list(capabilities, "add", path) or ()),
            tuple(_string_list(capabilities, "drop", path) or ()),
            *_seccomp({"seccompProfile": own.get("seccompProfile") or pod_security.get("seccompProfile")}, path),
        ),
        liveness=_probe(c.get("livenessProbe"), f"{path}.livenessProbe"),
        readiness=_probe(c.get("readinessProbe"), f"{path}.readinessProbe"),
        startup=_probe(c.get("startupProbe"), f"{path}.startupProbe"),
        termination_message_path=_absolute(c, "terminationMessagePath", path, "/dev/termination-log"),
        tty=_get(c, "tty", bool, path, False),
        stdin=_get(c, "stdin", bool, path, False),
        sidecar=is_init and _choice(c, "restartPolicy", path, ("", "Always")) == "Always",
        restart_policy="" if is_init else _choice(c, "restartPolicy", path, ("", *_RESTART_POLICIES)),
        log_is_message=_choice(c, "terminationMessagePolicy", path, ("File", "FallbackToLogsOnError")) != "File",
        post_start=_hook(lifecycle, "postStart", path),
        pre_stop=_hook(lifecycle, "preStop", path),
    )


def _seccomp(security: Mapping[str, Any], path: str) -> tuple[str, str]:
    profile = _dict(security, "seccompProfile", f"{path}.securityContext")
    where = f"{path}.securityContext.seccompProfile"
    if not profile:
        return "", ""
    kind = _get(profile, "type", str, where, "")
    if kind not in ("RuntimeDefault", "Localhost", "Unconfined"):
        raise Invalid(f"{kind!r:.60} is none of RuntimeDefault, Localhost, Unconfined", path=f"{where}.type")
    file = _get(profile, "localhostProfile", str, where, "")
    if (kind == "Localhost") != bool(file):
        raise Invalid("goes with type Localhost, and only with it", path=f"{where}.localhostProfile")
    if file.startswith("/") or ".." in file.split("/") or "\0" in file:
        raise Invalid(f"{file!r:.80} is not a path below the node's profiles", path=f"{where}.localhostProfile")
    return kind, file


def _hook(lifecycle: Mapping[str, Any], hook: str, path: str) -> Sequence[str]:
    action = _dict(_dict(lifecycle, hook, f"{path}.lifecycle"), "exec", f"{path}.lifecycle.{hook}")
    return tuple(_string_list(action, "command", f"{path}.lifecycle.{hook}.exec") or ())


def _mount(item: Any, path: str) -> Mount:
    m = _dict_item(item, path)
    return Mount(
        _get(m, "name", str, path, ""),
        _absolute(m, "mountPath", path),
        _get(m, "readOnly", bool, path, False),
        _get(m, "subPath", str, path, "") or _get(m, "subPathExpr", str, path, ""),
        bool(m.get("subPathExpr")) and not m.get("subPath"),
    )


def _port(item: Any, path: str) -> Port:
    p = _dict_item(item, path)
    port = Port(
        _get(p, "name", str, path, ""),
        _get(p, "containerPort", int, path, 0),
        _get(p, "hostPort", int, path, 0),
        _get(p, "hostIP", str, path, ""),
        _choice(p, "protocol", path, ("TCP", "UDP", "SCTP")),
    )
    if not 0 < port.container < 65536 or not 0 <= port.host < 65536:
        raise Invalid(f"{port.host or port.container} is not a port", path=path)
    if port.host_ip:
        _check_ip(port.host_ip, f"{path}.hostIP")
    return port


def _env(item: Any, path: str) -> EnvVar:
    e = _dict_item(item, path)
    source = e.get("valueFrom")
    value = e.get("value")
    if source is not None and not isinstance(source, dict):
        raise Invalid("not an object", path=f"{path}.valueFrom")
    name = _get(e, "name", str, path, "")
    if not name or "=" in name or "\0" in name:
        raise Invalid(f"{name!r:.80} is not the name of a variable", path=f"{path}.name")
    return EnvVar(name, None if value is None else str(value), source)


def _env_from(item: Any, path: str) -> EnvFrom:
    e = _dict_item(item, path)
    kind, ref = (
        ("configmaps", _dict(e, "configMapRef", path))
        if "configMapRef" in e
        else ("secrets", _dict(e, "secretRef", path))
    )
    return EnvFrom(kind, str(ref.get("name", "")), str(e.get("prefix", "")), bool(ref.get("optional")))


def _probe(item: Any, path: str) -> Probe | None:
    if item is None:
        return None
    p = _dict_item(item, path)
    common = {
        "initial_delay": float(_get(p, "initialDelaySeconds", int, path, 0)),
        "period": float(_get(p, "periodSeconds", int, path, 10) or 10),
        "timeout": float(_get(p, "timeoutSeconds", int, path, 1) or 1),
        "failure_threshold": _get(p, "failureThreshold", int, path, 3) or 3,
        "success_threshold": _get(p, "successThreshold", int, path, 1) or 1,
        "grace": _grace(p, path),
    }
    if "exec" in p:
        return Probe("exec", tuple(_string_list(_dict(p, "exec", path), "command", path) or ()), **common)  # type: ignore[arg-type]
    if "httpGet" in p:
        h = _dict(p, "httpGet", path)
        if h.get("scheme") == "HTTPS":  # nobody could say whose certificate it must be: that it listens has to do
            return Probe("tcp", port=_probe_port(h, path), host=str(h.get("host") or ""), **common)  # type: ignore[arg-type]
        return Probe(
            "http",
            path=str(h.get("path") or "/"),
            port=_probe_port(h, path),
            host=str(h.get("host") or ""),
            headers=tuple((str(x.get("name")), str(x.get("value"))) for x in _list(h, "httpHeaders", path)),
            **common,  # type: ignore[arg-type]
        )
    if "tcpSocket" in p:
        t = _dict(p, "tcpSocket", path)
        return Probe("tcp", port=_probe_port(t, path), host=str(t.get("host") or ""), **common)  # type: ignore[arg-type]
    if "grpc" in p:
        g = _dict(p, "grpc", path)
        if not isinstance(g.get("port"), int):
            raise Invalid(f"{g.get('port')!r:.60} is not a number", path=f"{path}.grpc.port")
        return Probe("grpc", port=_probe_port(g, path), service=_get(g, "service", str, path, ""), **common)  # type: ignore[arg-type]
    raise Invalid("must have one of exec, httpGet, tcpSocket and grpc", path=path)


def _grace(p: Mapping[str, Any], path: str) -> float | None:
    value = p.get("terminationGracePeriodSeconds")
    return None if value is None else _seconds(value, f"{path}.terminationGracePeriodSeconds")


def _probe_port(values: Mapping[str, Any], path: str) -> int | str:
    port = values.get("port", 0)
    if isinstance(port, bool) or not isinstance(port, int | str) or (isinstance(port, int) and not 0 < port < 65536):
        raise Invalid(f"{port!r:.60} is not a port", path=f"{path}.port")
    return port


def _volume(item: Any, path: str) -> Volume:
    v = _dict_item(item, path)
    name = _name(v, "name", path, _LABEL)
    for kind in VOLUME_KINDS:
        if kind in v:
            return Volume(name, kind, _dict(v, kind, path))
    kinds = [key for key in v if key != "name"]
    if not kinds:
        return Volume(name, "emptyDir", {})
    raise Unsupported(f"volumes of type {kinds[0]} are not supported here", path=path)


def _quantity(values: Mapping[str, Any], key: str, path: str, convert: Any) -> int | None:
    if key not in values:
        return None
    try:
        amount: int = convert(str(values[key]))
        return amount
    except (ValueError, Invalid) as exc:
        raise Invalid(f"{values[key]!r} is not a quantity", path=f"{path}.{key}") from exc


def _get(values: Mapping[str, Any], key: str, kind: type[T], path: str, default: T) -> T:
    value = values.get(key)
    if value is None:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise Invalid(f"{value!r:.60} instead of {kind.__name__}", path=f"{path}.{key}" if path else key)
    return value


def _dict(values: Mapping[str, Any], key: str, path: str) -> dict[str, Any]:
    return _get(values, key, dict, path, {})


def _dict_item(item: Any, path: str) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise Invalid(f"{item!r:.60} instead of an object", path=path)
    return item


def _list(values: Mapping[str, Any], key: str, path: str) -> list[Any]:
    return _get(values, key, list, path, [])


def _string_list(values: Mapping[str, Any], key: str, path: str) -> list[str] | None:
    items = values.get(key)
    if items is None:
        return None
    if not isinstance(items, list) or not all(isinstance(i, str) for i in items):
        raise Invalid("not a list of text", path=f"{path}.{key}")
    return items


def _strings(values: Mapping[str, Any], key: str, path: str) -> dict[str, str]:
    return {str(k): str(v) for k, v in _dict(values, key, path).items()}


def _optional_int(values: Mapping[str, Any], key: str, path: str) -> int | None:
    number = _get(values, key, int, path, -1)
    if values.get(key) is None:
        return None
    if not 0 <= number <= _MAX_ID:
        raise Invalid(f"{number} is not a user or group id", path=f"{path}.{key}")
    return number


def _ids(values: Mapping[str, Any], key: str, path: str) -> list[int]:
    return [n for item in _list(values, key, path) if (n := _optional_int({key: item}, key, path)) is not None]


def _name(values: Mapping[str, Any], key: str, path: str, form: re.Pattern[str], default: str = "") -> str:
    """What becomes a file name, an argument or a host name."""
    name = _get(values, key, str, path, "") or default
    if not name:
        raise Invalid("required", path=f"{path}.{key}")
    if not form.fullmatch(name) or ".." in name:
        raise Invalid(f"{name!r:.80} is not a name", path=f"{path}.{key}")
    return name


def _choice(values: Mapping[str, Any], key: str, path: str, allowed: Sequence[str]) -> str:
    """One of `allowed`; the first is the default."""
    value = _get(values, key, str, path, "") or allowed[0]
    if value not in allowed:
        raise Invalid(f"{value!r:.60} is none of {', '.join(dict.fromkeys(allowed))}", path=f"{path}.{key}")
    return value


def _absolute(values: Mapping[str, Any], key: str, path: str, default: str = "") -> str:
    """A path inside of a container."""
    value = _get(values, key, str, path, "") or default
    if not value.startswith("/") or value.strip("/") == "" or ".." in value.split("/") or "\0" in value:
        raise Invalid(f"{value!r:.80} is not an absolute path", path=f"{path}.{key}")
    return value


def _seconds(value: Any, path: str) -> float:
    if value is None:
        return 30.0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_GRACE:
        raise Invalid(f"{value!r:.60} is not a number of seconds", path=path)
    return float(value)


def _check_ip(text: str, path: str) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError as exc:
        raise Invalid(f"{text!r:.60} is not an IP address", path=path) from exc
