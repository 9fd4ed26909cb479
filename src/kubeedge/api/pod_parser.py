"""A Pod from its JSON, once and strictly. The API refuses what this refuses (validation_kinds.py).

Raises Invalid with the field's path ("spec.containers[0].image"). Fields that are not understood are listed in `Pod.unsupported`; they
become an event, not a crash. Names that become paths, arguments or lines of a file are checked here, whatever the origin of the pod.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any

from kubeedge.api import pod_fields, quantities
from kubeedge.api.json_fields import (
    mapping_of,
    read,
    read_choice,
    read_id,
    read_ids,
    read_list,
    read_mapping,
    read_name,
    read_path,
    read_quantity,
    read_text_mapping,
    read_texts,
)
from kubeedge.api.names import Object
from kubeedge.api.pod import (
    VOLUME_KINDS,
    Container,
    EnvFrom,
    EnvVar,
    Mount,
    Pod,
    Port,
    Probe,
    Resources,
    Security,
    Unsupported,
    Volume,
)
from kubeedge.errors import Invalid

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_UID = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9]{0,62}[A-Za-z0-9])?")
_HOSTNAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9.]{0,251}[A-Za-z0-9])?")
_DNS_OPTION = re.compile(r"[a-z0-9][-a-z0-9]{0,62}(:[-a-z0-9.]{1,63})?")
_MAX_GRACE = 365 * 24 * 3600  # seconds; longer is a mistake
_RESTART_POLICIES = ("Always", "OnFailure", "Never")


def parse(obj: Object) -> Pod:
    """Raises Invalid with the path of the first mistake, Unsupported for what Kubernetes can do and this node cannot."""
    meta, spec = read_mapping(obj, "metadata", ""), read_mapping(obj, "spec", "")
    pod_security = read_mapping(spec, "securityContext", "spec")
    if not read(spec, "hostUsers", bool, "spec", True):
        raise Unsupported("user namespaces are not supported here", path="spec.hostUsers")
    volumes: dict[str, Volume] = {}
    for n, item in enumerate(read_list(spec, "volumes", "spec")):
        volume = _volume(item, f"spec.volumes[{n}]")
        if volume.name in volumes:
            raise Invalid(f"{volume.name!r} is there twice", path=f"spec.volumes[{n}].name")
        volumes[volume.name] = volume
    main, init = read_list(spec, "containers", "spec"), read_list(spec, "initContainers", "spec")
    if not main:
        raise Invalid("required", path="spec.containers")
    name = read_name(meta, "name", "metadata", _SUBDOMAIN)
    grace = meta.get("deletionGracePeriodSeconds", spec.get("terminationGracePeriodSeconds"))
    pod = Pod(
        namespace=read_name(meta, "namespace", "metadata", _LABEL, "default"),
        name=name,
        uid=read_name(meta, "uid", "metadata", _UID),
        labels=read_text_mapping(meta, "labels", "metadata"),
        annotations=read_text_mapping(meta, "annotations", "metadata"),
        deleting=bool(meta.get("deletionTimestamp")),
        grace=_seconds(grace, "spec.terminationGracePeriodSeconds"),
        restart_policy=read_choice(spec, "restartPolicy", "spec", _RESTART_POLICIES),
        host_network=read(spec, "hostNetwork", bool, "spec", False),
        hostname=read_name(spec, "hostname", "spec", _LABEL, name[:63].rstrip("-.")),
        host_aliases=tuple(
            _host_alias(a, f"spec.hostAliases[{n}]") for n, a in enumerate(read_list(spec, "hostAliases", "spec"))
        ),
        fs_group=read_id(pod_security, "fsGroup", "spec.securityContext"),
        groups=tuple(read_ids(pod_security, "supplementalGroups", "spec.securityContext")),
        init_containers=tuple(
            _container(c, f"spec.initContainers[{n}]", pod_security, is_init=True) for n, c in enumerate(init)
        ),
        containers=tuple(_container(c, f"spec.containers[{n}]", pod_security) for n, c in enumerate(main)),
        volumes=volumes,
        pull_secrets=tuple(
            str(mapping_of(s, "spec.imagePullSecrets").get("name", ""))
            for s in read_list(spec, "imagePullSecrets", "spec")
        ),
        service_account=read(spec, "serviceAccountName", str, "spec", "default"),
        dns=_dns(spec),
        has_finalizers=bool(meta.get("finalizers")),
        dns_policy=read(spec, "dnsPolicy", str, "spec", "ClusterFirst"),
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
    alias = mapping_of(item, path)
    ip, names = str(alias.get("ip") or ""), read_texts(alias, "hostnames", path) or []
    _check_ip(ip, f"{path}.ip")
    for name in names:
        if not _HOSTNAME.fullmatch(name):
            raise Invalid(f"{name!r:.80} is not a host name", path=f"{path}.hostnames")
    return ip, tuple(names)


def _dns(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """nameservers and searches of dnsConfig, checked: they become lines of a file."""
    dns = read_mapping(spec, "dnsConfig", "spec")
    servers = read_texts(dns, "nameservers", "spec.dnsConfig") or []
    for server in servers:
        _check_ip(server, "spec.dnsConfig.nameservers")
    searches = read_texts(dns, "searches", "spec.dnsConfig") or []
    for search in searches:
        if not _HOSTNAME.fullmatch(search.rstrip(".")):
            raise Invalid(f"{search!r:.80} is not a domain", path="spec.dnsConfig.searches")
    options = [
        _dns_option(o, f"spec.dnsConfig.options[{n}]")
        for n, o in enumerate(read_list(dns, "options", "spec.dnsConfig"))
    ]
    return {"nameservers": servers, "searches": searches, "options": options}


def _dns_option(item: Any, path: str) -> str:
    option = mapping_of(item, path)
    text = ":".join(str(option[key]) for key in ("name", "value") if option.get(key) not in (None, ""))
    if not _DNS_OPTION.fullmatch(text):
        raise Invalid(f"{text!r:.80} is not an option of a resolver", path=path)
    return text


def _subdomain(spec: Mapping[str, Any]) -> str:
    return read_name(spec, "subdomain", "spec", _LABEL) if spec.get("subdomain") else ""


def _container(item: Any, path: str, pod_security: Mapping[str, Any], *, is_init: bool = False) -> Container:
    c = mapping_of(item, path)
    own = read_mapping(c, "securityContext", path)
    capabilities = read_mapping(own, "capabilities", path)
    merged = {**{k: pod_security[k] for k in ("runAsUser", "runAsGroup", "runAsNonRoot") if k in pod_security}, **own}
    resources = read_mapping(c, "resources", path)
    limits, requests = read_mapping(resources, "limits", path), read_mapping(resources, "requests", path)
    image = read(c, "image", str, path, "")
    if not image:
        raise Invalid("required", path=f"{path}.image")
    latest = ":" not in image.rsplit("/", 1)[-1] or image.endswith(":latest")
    policy = "Always" if latest and "@" not in image else "IfNotPresent"
    lifecycle = read_mapping(c, "lifecycle", path)
    return Container(
        name=read_name(c, "name", path, _LABEL),
        image=image,
        pull_policy=read_choice(c, "imagePullPolicy", path, (policy, "Always", "IfNotPresent", "Never")),
        command=read_texts(c, "command", path),
        args=read_texts(c, "args", path),
        working_dir=read(c, "workingDir", str, path, ""),
        env=tuple(_env(e, f"{path}.env[{n}]") for n, e in enumerate(read_list(c, "env", path))),
        env_from=tuple(_env_from(e, f"{path}.envFrom[{n}]") for n, e in enumerate(read_list(c, "envFrom", path))),
        mounts=tuple(_mount(m, f"{path}.volumeMounts[{n}]") for n, m in enumerate(read_list(c, "volumeMounts", path))),
        ports=tuple(_port(p, f"{path}.ports[{n}]") for n, p in enumerate(read_list(c, "ports", path))),
        resources=Resources(
            read_quantity(limits, "cpu", f"{path}.resources.limits", quantities.millicores),
            read_quantity(limits, "memory", f"{path}.resources.limits", quantities.bytes_of),
            read_quantity(requests, "cpu", f"{path}.resources.requests", quantities.millicores)
            or read_quantity(limits, "cpu", f"{path}.resources.limits", quantities.millicores)
            or 0,
            read_quantity(requests, "memory", f"{path}.resources.requests", quantities.bytes_of) or 0,
        ),
        security=Security(
            read_id(merged, "runAsUser", path),
            read_id(merged, "runAsGroup", path),
            bool(merged.get("runAsNonRoot")),
            read(own, "privileged", bool, path, False),
            read(own, "readOnlyRootFilesystem", bool, path, False),
            read(own, "allowPrivilegeEscalation", bool, path, True),
            tuple(read_texts(capabilities, "add", path) or ()),
            tuple(read_texts(capabilities, "drop", path) or ()),
            *_seccomp({"seccompProfile": own.get("seccompProfile") or pod_security.get("seccompProfile")}, path),
        ),
        liveness=_probe(c.get("livenessProbe"), f"{path}.livenessProbe"),
        readiness=_probe(c.get("readinessProbe"), f"{path}.readinessProbe"),
        startup=_probe(c.get("startupProbe"), f"{path}.startupProbe"),
        termination_message_path=read_path(c, "terminationMessagePath", path, "/dev/termination-log"),
        tty=read(c, "tty", bool, path, False),
        stdin=read(c, "stdin", bool, path, False),
        sidecar=is_init and read_choice(c, "restartPolicy", path, ("", "Always")) == "Always",
        restart_policy="" if is_init else read_choice(c, "restartPolicy", path, ("", *_RESTART_POLICIES)),
        log_is_message=read_choice(c, "terminationMessagePolicy", path, ("File", "FallbackToLogsOnError")) != "File",
        post_start=_hook(lifecycle, "postStart", path),
        pre_stop=_hook(lifecycle, "preStop", path),
    )


def _seccomp(security: Mapping[str, Any], path: str) -> tuple[str, str]:
    profile = read_mapping(security, "seccompProfile", f"{path}.securityContext")
    where = f"{path}.securityContext.seccompProfile"
    if not profile:
        return "", ""
    kind = read(profile, "type", str, where, "")
    if kind not in ("RuntimeDefault", "Localhost", "Unconfined"):
        raise Invalid(f"{kind!r:.60} is none of RuntimeDefault, Localhost, Unconfined", path=f"{where}.type")
    file = read(profile, "localhostProfile", str, where, "")
    if (kind == "Localhost") != bool(file):
        raise Invalid("goes with type Localhost, and only with it", path=f"{where}.localhostProfile")
    if file.startswith("/") or ".." in file.split("/") or "\0" in file:
        raise Invalid(f"{file!r:.80} is not a path below the node's profiles", path=f"{where}.localhostProfile")
    return kind, file


def _hook(lifecycle: Mapping[str, Any], hook: str, path: str) -> Sequence[str]:
    action = read_mapping(read_mapping(lifecycle, hook, f"{path}.lifecycle"), "exec", f"{path}.lifecycle.{hook}")
    return tuple(read_texts(action, "command", f"{path}.lifecycle.{hook}.exec") or ())


def _mount(item: Any, path: str) -> Mount:
    m = mapping_of(item, path)
    return Mount(
        read(m, "name", str, path, ""),
        read_path(m, "mountPath", path),
        read(m, "readOnly", bool, path, False),
        read(m, "subPath", str, path, "") or read(m, "subPathExpr", str, path, ""),
        bool(m.get("subPathExpr")) and not m.get("subPath"),
    )


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
        _check_ip(port.host_ip, f"{path}.hostIP")
    return port


def _env(item: Any, path: str) -> EnvVar:
    e = mapping_of(item, path)
    source = e.get("valueFrom")
    value = e.get("value")
    if source is not None and not isinstance(source, dict):
        raise Invalid("not an object", path=f"{path}.valueFrom")
    name = read(e, "name", str, path, "")
    if not name or "=" in name or "\0" in name:
        raise Invalid(f"{name!r:.80} is not the name of a variable", path=f"{path}.name")
    return EnvVar(name, None if value is None else str(value), source)


def _env_from(item: Any, path: str) -> EnvFrom:
    e = mapping_of(item, path)
    kind, ref = (
        ("configmaps", read_mapping(e, "configMapRef", path))
        if "configMapRef" in e
        else ("secrets", read_mapping(e, "secretRef", path))
    )
    return EnvFrom(kind, str(ref.get("name", "")), str(e.get("prefix", "")), bool(ref.get("optional")))


def _probe(item: Any, path: str) -> Probe | None:
    if item is None:
        return None
    p = mapping_of(item, path)
    common = {
        "initial_delay": float(read(p, "initialDelaySeconds", int, path, 0)),
        "period": float(read(p, "periodSeconds", int, path, 10) or 10),
        "timeout": float(read(p, "timeoutSeconds", int, path, 1) or 1),
        "failure_threshold": read(p, "failureThreshold", int, path, 3) or 3,
        "success_threshold": read(p, "successThreshold", int, path, 1) or 1,
        "grace": _grace(p, path),
    }
    if "exec" in p:
        return Probe("exec", tuple(read_texts(read_mapping(p, "exec", path), "command", path) or ()), **common)  # type: ignore[arg-type]
    if "httpGet" in p:
        h = read_mapping(p, "httpGet", path)
        if h.get("scheme") == "HTTPS":  # nobody could say whose certificate it must be: that it listens has to do
            return Probe("tcp", port=_probe_port(h, path), host=str(h.get("host") or ""), **common)  # type: ignore[arg-type]
        return Probe(
            "http",
            path=str(h.get("path") or "/"),
            port=_probe_port(h, path),
            host=str(h.get("host") or ""),
            headers=tuple((str(x.get("name")), str(x.get("value"))) for x in read_list(h, "httpHeaders", path)),
            **common,  # type: ignore[arg-type]
        )
    if "tcpSocket" in p:
        t = read_mapping(p, "tcpSocket", path)
        return Probe("tcp", port=_probe_port(t, path), host=str(t.get("host") or ""), **common)  # type: ignore[arg-type]
    if "grpc" in p:
        g = read_mapping(p, "grpc", path)
        if not isinstance(g.get("port"), int):
            raise Invalid(f"{g.get('port')!r:.60} is not a number", path=f"{path}.grpc.port")
        return Probe("grpc", port=_probe_port(g, path), service=read(g, "service", str, path, ""), **common)  # type: ignore[arg-type]
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
    v = mapping_of(item, path)
    name = read_name(v, "name", path, _LABEL)
    for kind in VOLUME_KINDS:
        if kind in v:
            return Volume(name, kind, read_mapping(v, kind, path))
    kinds = [key for key in v if key != "name"]
    if not kinds:
        return Volume(name, "emptyDir", {})
    raise Unsupported(f"volumes of type {kinds[0]} are not supported here", path=path)


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
