"""What AppEngine understands of a Pod: parsed once, strictly, into frozen values.

Raises Invalid with the field's path ("spec.containers[0].image"). Fields that are not understood are listed in `Pod.unsupported`; they
become an event, not a crash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from kubeedge.api import quantities
from kubeedge.api.names import Object
from kubeedge.errors import Invalid

T = TypeVar("T")


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


@dataclass(frozen=True, slots=True)
class Probe:
    kind: str  # "exec", "http", "tcp"
    command: Sequence[str] = ()
    path: str = "/"
    port: int | str = 0
    host: str = ""
    scheme: str = "http"
    headers: Sequence[tuple[str, str]] = ()
    initial_delay: float = 0.0  # seconds
    period: float = 10.0
    timeout: float = 1.0
    failure_threshold: int = 3
    success_threshold: int = 1


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
    ports: Sequence[tuple[str, int]]  # (name, container port)
    resources: Resources
    security: Security
    liveness: Probe | None
    readiness: Probe | None
    startup: Probe | None
    termination_message_path: str
    tty: bool
    stdin: bool


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
    init_containers: Sequence[Container]
    containers: Sequence[Container]
    volumes: Mapping[str, Volume]
    pull_secrets: Sequence[str]
    service_account: str
    dns: Mapping[str, Any] = field(default_factory=dict)
    unsupported: Sequence[str] = ()

    @property
    def all_containers(self) -> Sequence[Container]:
        return (*self.init_containers, *self.containers)


_VOLUMES = ("configMap", "secret", "emptyDir", "hostPath", "projected", "downwardAPI")
_KNOWN_SPEC = frozenset(
    "containers initContainers restartPolicy terminationGracePeriodSeconds nodeName nodeSelector affinity tolerations volumes "
    "hostNetwork hostname hostAliases dnsPolicy dnsConfig securityContext serviceAccountName serviceAccount imagePullSecrets "
    "schedulerName enableServiceLinks automountServiceAccountToken priority priorityClassName preemptionPolicy subdomain "
    "topologySpreadConstraints".split()
)


def parse(obj: Object) -> Pod:
    meta, spec = _dict(obj, "metadata", ""), _dict(obj, "spec", "")
    pod_security = _dict(spec, "securityContext", "spec")
    volumes = {}
    for n, item in enumerate(_list(spec, "volumes", "spec")):
        volume = _volume(item, f"spec.volumes[{n}]")
        volumes[volume.name] = volume
    unsupported = [f"spec.{key}" for key in spec if key not in _KNOWN_SPEC]
    main = _list(spec, "containers", "spec")
    if not main:
        raise Invalid("required", path="spec.containers")
    grace = meta.get("deletionGracePeriodSeconds", spec.get("terminationGracePeriodSeconds"))
    pod = Pod(
        namespace=_get(meta, "namespace", str, "metadata", "default"),
        name=_get(meta, "name", str, "metadata", ""),
        uid=_get(meta, "uid", str, "metadata", ""),
        labels=_strings(meta, "labels", "metadata"),
        annotations=_strings(meta, "annotations", "metadata"),
        deleting=bool(meta.get("deletionTimestamp")),
        grace=float(30 if grace is None else grace),
        restart_policy=_get(spec, "restartPolicy", str, "spec", "Always"),
        host_network=_get(spec, "hostNetwork", bool, "spec", False),
        hostname=_get(spec, "hostname", str, "spec", "") or _get(meta, "name", str, "metadata", "")[:63],
        host_aliases=tuple(
            (str(_dict_item(a, "spec.hostAliases").get("ip", "")), tuple(map(str, a.get("hostnames") or ())))
            for a in _list(spec, "hostAliases", "spec")
        ),
        fs_group=_optional_int(pod_security, "fsGroup", "spec.securityContext"),
        init_containers=tuple(
            _container(c, f"spec.initContainers[{n}]", pod_security)
            for n, c in enumerate(_list(spec, "initContainers", "spec"))
        ),
        containers=tuple(_container(c, f"spec.containers[{n}]", pod_security) for n, c in enumerate(main)),
        volumes=volumes,
        pull_secrets=tuple(
            str(_dict_item(s, "spec.imagePullSecrets").get("name", "")) for s in _list(spec, "imagePullSecrets", "spec")
        ),
        service_account=_get(spec, "serviceAccountName", str, "spec", "default"),
        dns=_dict(spec, "dnsConfig", "spec"),
        unsupported=tuple(unsupported),
    )
    if not pod.uid or not pod.name:
        raise Invalid("required", path="metadata.uid" if pod.name else "metadata.name")
    for container in pod.all_containers:
        for mount in container.mounts:
            if mount.name not in volumes:
                raise Invalid(
                    f"volume {mount.name!r} of container {container.name!r} is not defined", path="spec.volumes"
                )
    return pod


def _container(item: Any, path: str, pod_security: Mapping[str, Any]) -> Container:
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
    return Container(
        name=_get(c, "name", str, path, ""),
        image=image,
        pull_policy=_get(c, "imagePullPolicy", str, path, "Always" if latest and "@" not in image else "IfNotPresent"),
        command=_string_list(c, "command", path),
        args=_string_list(c, "args", path),
        working_dir=_get(c, "workingDir", str, path, ""),
        env=tuple(_env(e, f"{path}.env[{n}]") for n, e in enumerate(_list(c, "env", path))),
        env_from=tuple(_env_from(e, f"{path}.envFrom[{n}]") for n, e in enumerate(_list(c, "envFrom", path))),
        mounts=tuple(
            Mount(
                _get(m, "name", str, path, ""),
                _get(m, "mountPath", str, path, ""),
                _get(m, "readOnly", bool, path, False),
                _get(m, "subPath", str, path, ""),
            )
            for m in map(lambda m: _dict_item(m, f"{path}.volumeMounts"), _list(c, "volumeMounts", path))
        ),
        ports=tuple(
            (_get(p, "name", str, path, ""), _get(p, "containerPort", int, path, 0))
            for p in map(lambda p: _dict_item(p, f"{path}.ports"), _list(c, "ports", path))
        ),
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
        ),
        liveness=_probe(c.get("livenessProbe"), f"{path}.livenessProbe"),
        readiness=_probe(c.get("readinessProbe"), f"{path}.readinessProbe"),
        startup=_probe(c.get("startupProbe"), f"{path}.startupProbe"),
        termination_message_path=_get(c, "terminationMessagePath", str, path, "/dev/termination-log"),
        tty=_get(c, "tty", bool, path, False),
        stdin=_get(c, "stdin", bool, path, False),
    )


def _env(item: Any, path: str) -> EnvVar:
    e = _dict_item(item, path)
    source = e.get("valueFrom")
    value = e.get("value")
    if source is not None and not isinstance(source, dict):
        raise Invalid("not an object", path=f"{path}.valueFrom")
    return EnvVar(_get(e, "name", str, path, ""), None if value is None else str(value), source)


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
    }
    if "exec" in p:
        return Probe("exec", tuple(_string_list(_dict(p, "exec", path), "command", path) or ()), **common)  # type: ignore[arg-type]
    if "httpGet" in p:
        h = _dict(p, "httpGet", path)
        return Probe(
            "http",
            path=str(h.get("path") or "/"),
            port=h.get("port", 80),
            host=str(h.get("host") or ""),
            scheme=str(h.get("scheme") or "HTTP").lower(),
            headers=tuple((str(x.get("name")), str(x.get("value"))) for x in _list(h, "httpHeaders", path)),
            **common,  # type: ignore[arg-type]
        )
    if "tcpSocket" in p:
        t = _dict(p, "tcpSocket", path)
        return Probe("tcp", port=t.get("port", 0), host=str(t.get("host") or ""), **common)  # type: ignore[arg-type]
    raise Invalid("only exec, httpGet and tcpSocket are supported", path=path)


def _volume(item: Any, path: str) -> Volume:
    v = _dict_item(item, path)
    name = _get(v, "name", str, path, "")
    for kind in _VOLUMES:
        if kind in v:
            return Volume(name, kind, v[kind] or {})
    kinds = [key for key in v if key != "name"]
    if not kinds:
        return Volume(name, "emptyDir", {})
    raise Invalid(f"volumes of type {kinds[0]} are not supported here", path=path)


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
    return _get(values, key, int, path, -1) if values.get(key) is not None else None
