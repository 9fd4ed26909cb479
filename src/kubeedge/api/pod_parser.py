"""A Pod from its JSON, once and strictly. The API refuses what this refuses (validation_kinds.py).

Raises Invalid with the field's path ("spec.containers[0].image"). Fields that are not understood are listed in `Pod.unsupported`; they
become an event, not a crash. Names that become paths, arguments or lines of a file are checked here, whatever the origin of the pod.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from kubeedge.api import ephemeral_storage, pod_fields
from kubeedge.api.container_parser import LABEL, RESTART_POLICIES, check_ip, container, resource_requirements
from kubeedge.api.json_fields import (
    UnknownValue,
    check_texts,
    mapping_of,
    read,
    read_choice,
    read_id,
    read_ids,
    read_list,
    read_mapping,
    read_name,
    read_text_mapping,
    read_texts,
)
from kubeedge.api.names import Object
from kubeedge.api.pod import (
    IMAGE_VOLUME,
    VOLUME_KINDS,
    Container,
    NotAdmitted,
    Pod,
    ResourceRequirements,
    Unsupported,
    VolumeSpec,
)
from kubeedge.api.probe_parser import seconds
from kubeedge.errors import Invalid

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_UID = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9]{0,62}[A-Za-z0-9])?")
_HOSTNAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9.]{0,251}[A-Za-z0-9])?")
_DNS_OPTION = re.compile(r"[a-z0-9][-a-z0-9]{0,62}(:[-a-z0-9.]{1,63})?")
_SYSCTL = re.compile(r"[a-z0-9]([-_a-z0-9]*[a-z0-9])?([./][a-z0-9]([-_a-z0-9]*[a-z0-9])?)*")
_SYSCTL_VALUE = re.compile(r"[\x20-\x7e\t]{1,256}")
_NO_RESOURCES = ResourceRequirements(None, None, 0, 0)
_MAX_HOSTNAME = 64  # characters: HOST_NAME_MAX of Linux
#: of a namespace that the pod has for itself, and without effect on what other pods may use
SAFE_SYSCTLS = frozenset(
    """
kernel.shm_rmid_forced net.ipv4.ip_local_port_range net.ipv4.tcp_syncookies net.ipv4.ping_group_range
net.ipv4.ip_unprivileged_port_start net.ipv4.ip_local_reserved_ports net.ipv4.tcp_keepalive_time net.ipv4.tcp_fin_timeout
net.ipv4.tcp_keepalive_intvl net.ipv4.tcp_keepalive_probes net.ipv4.tcp_rmem net.ipv4.tcp_wmem
""".split()
)


def parse(obj: Object) -> Pod:
    """Raises Invalid with the path of the first mistake, Unsupported for what Kubernetes can do and this node cannot, NotAdmitted for what no
    node of this kind runs."""
    meta, spec = read_mapping(obj, "metadata", ""), read_mapping(obj, "spec", "")
    _check_system(spec)
    pod_security = read_mapping(spec, "securityContext", "spec")
    if read_list(spec, "resourceClaims", "spec"):
        raise Unsupported("dynamic resource allocation is not supported here", path="spec.resourceClaims")
    volumes: dict[str, VolumeSpec] = {}
    for n, item in enumerate(read_list(spec, "volumes", "spec")):
        volume = _volume(item, f"spec.volumes[{n}]")
        if volume.name in volumes:
            raise Invalid(f"{volume.name!r} is there twice", path=f"spec.volumes[{n}].name")
        volumes[volume.name] = volume
    if not read_list(spec, "containers", "spec"):
        raise Invalid("required", path="spec.containers")
    name = read_name(meta, "name", "metadata", _SUBDOMAIN)
    hostname, subdomain = _names_of_host(spec, name)
    grace = meta.get("deletionGracePeriodSeconds", spec.get("terminationGracePeriodSeconds"))
    pod = Pod(
        namespace=read_name(meta, "namespace", "metadata", LABEL, "default"),
        name=name,
        uid=read_name(meta, "uid", "metadata", _UID),
        labels=read_text_mapping(meta, "labels", "metadata"),
        annotations=read_text_mapping(meta, "annotations", "metadata"),
        deleting=bool(meta.get("deletionTimestamp")),
        deleted_at=str(meta.get("deletionTimestamp") or "")[:40],
        grace=seconds(grace, "spec.terminationGracePeriodSeconds"),
        restart_policy=read_choice(spec, "restartPolicy", "spec", RESTART_POLICIES),
        host_network=read(spec, "hostNetwork", bool, "spec", False),
        hostname=hostname,
        host_aliases=tuple(
            _host_alias(a, f"spec.hostAliases[{n}]") for n, a in enumerate(read_list(spec, "hostAliases", "spec"))
        ),
        fs_group=read_id(pod_security, "fsGroup", "spec.securityContext"),
        fs_group_on_mismatch=read_choice(
            pod_security, "fsGroupChangePolicy", "spec.securityContext", ("Always", "OnRootMismatch")
        )
        == "OnRootMismatch",
        groups=tuple(read_ids(pod_security, "supplementalGroups", "spec.securityContext")),
        init_containers=_containers(spec, "initContainers", pod_security),
        containers=_containers(spec, "containers", pod_security),
        ephemeral_containers=_containers(spec, "ephemeralContainers", pod_security),
        volumes=volumes,
        pull_secrets=tuple(
            str(mapping_of(s, "spec.imagePullSecrets").get("name", ""))
            for s in read_list(spec, "imagePullSecrets", "spec")
        ),
        service_account=read(spec, "serviceAccountName", str, "spec", "default"),
        priority=read(spec, "priority", int, "spec", 0),
        storage=ephemeral_storage.read(spec),
        dns=_dns(spec),
        has_finalizers=bool(meta.get("finalizers")),
        dns_policy=read(spec, "dnsPolicy", str, "spec", "ClusterFirst"),
        subdomain=subdomain,
        unsupported=tuple(pod_fields.without_effect(spec)),
        generation=read(meta, "generation", int, "metadata", 0),
        active_deadline=_active_deadline(spec),
        share_processes=read(spec, "shareProcessNamespace", bool, "spec", False),
        host_pid=read(spec, "hostPID", bool, "spec", False),
        host_ipc=read(spec, "hostIPC", bool, "spec", False),
        host_users=read(spec, "hostUsers", bool, "spec", True),
        fqdn_hostname=read(spec, "setHostnameAsFQDN", bool, "spec", False),
        strict_groups=read_choice(pod_security, "supplementalGroupsPolicy", "spec.securityContext", ("Merge", "Strict"))
        == "Strict",
        sysctls=_sysctls(spec, pod_security),
        runtime_class=read_name(spec, "runtimeClassName", "spec", _SUBDOMAIN) if spec.get("runtimeClassName") else "",
        priority_class=read(spec, "priorityClassName", str, "spec", ""),
        resources=_resources(spec),
        overhead=resource_requirements({"requests": read_mapping(spec, "overhead", "spec")}, "spec.overhead"),
        service_links=read(spec, "enableServiceLinks", bool, "spec", True),
        readiness_gates=_readiness_gates(obj, spec),
    )
    _check_names(pod)
    return pod


def _resources(spec: Mapping[str, Any]) -> ResourceRequirements | None:
    resources = read_mapping(spec, "resources", "spec")
    made = resource_requirements(resources, "spec.resources") if resources else None
    return None if made == _NO_RESOURCES else made


def _containers(spec: Mapping[str, Any], kind: str, pod_security: Mapping[str, Any]) -> Sequence[Container]:
    return tuple(
        container(item, f"spec.{kind}[{n}]", pod_security, kind=kind)
        for n, item in enumerate(read_list(spec, kind, "spec"))
    )


def _check_names(pod: Pod) -> None:
    """Each container has a name of its own, and what it names is there."""
    names = set[str]()
    for one in pod.all_containers:
        if one.name in names:
            raise Invalid(f"{one.name!r} is there twice", path="spec.containers")
        names.add(one.name)
        for mount in one.mounts:
            if mount.name not in pod.volumes:
                raise Invalid(f"volume {mount.name!r} of container {one.name!r} is not defined", path="spec.volumes")
        for variable in one.env:
            ref = (variable.source or {}).get("fileKeyRef")
            if ref and ((volume := pod.volumes.get(ref["volumeName"])) is None or volume.kind != "emptyDir"):
                raise Invalid(
                    f"volume {ref['volumeName']!r} is no emptyDir of the pod", path=f"{one.name}.env.fileKeyRef"
                )
        if one.target and one.target not in {c.name for c in (*pod.init_containers, *pod.containers)}:
            raise Invalid(f"the pod has no container {one.target!r}", path="spec.ephemeralContainers")
    for shared, field in ((pod.host_network, "hostNetwork"), (pod.host_pid, "hostPID"), (pod.host_ipc, "hostIPC")):
        if shared and not pod.host_users:
            raise Invalid(f"not together with {field}", path="spec.hostUsers")
    if pod.host_users and any(one.security.unmasked for one in pod.all_containers):
        raise Invalid("must be false where procMount is Unmasked", path="spec.hostUsers")
    if pod.share_processes and pod.host_pid:
        raise Invalid("not together with hostPID", path="spec.shareProcessNamespace")


def _active_deadline(spec: Mapping[str, Any]) -> float | None:
    value = spec.get("activeDeadlineSeconds")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
        raise Invalid(f"{value!r:.60} is not a number of seconds", path="spec.activeDeadlineSeconds")
    return float(value)


def _sysctls(spec: Mapping[str, Any], security: Mapping[str, Any]) -> Mapping[str, str]:
    """By the name with dots. A pod with kernel parameters that are not known to be safe fails, as with a kubelet that does not allow them."""
    sysctls = {}
    for n, item in enumerate(read_list(security, "sysctls", "spec.securityContext")):
        path = f"spec.securityContext.sysctls[{n}]"
        sysctl = mapping_of(item, path)
        name, value = read(sysctl, "name", str, path, ""), read(sysctl, "value", str, path, "")
        if len(name) > 253 or not _SYSCTL.fullmatch(name):
            raise Invalid(f"{name!r:.80} is not a kernel parameter", path=f"{path}.name")
        if not _SYSCTL_VALUE.fullmatch(value):
            raise Invalid(f"{value!r:.80} is not the value of a kernel parameter", path=f"{path}.value")
        name = name.replace("/", ".")
        if name not in SAFE_SYSCTLS:
            message = f"{name} is not among the safe kernel parameters"
            raise NotAdmitted("SysctlForbidden", message, path=f"{path}.name")
        shared = "hostNetwork" if name.startswith("net.") else "hostIPC"
        if spec.get(shared):
            raise Invalid(f"{name} would change the machine: not together with {shared}", path=f"{path}.name")
        sysctls[name] = value
    return sysctls


def _host_alias(item: Any, path: str) -> tuple[str, Sequence[str]]:
    alias = mapping_of(item, path)
    ip, names = str(alias.get("ip") or ""), read_texts(alias, "hostnames", path) or []
    check_ip(ip, f"{path}.ip")
    for name in names:
        if not _HOSTNAME.fullmatch(name):
            raise Invalid(f"{name!r:.80} is not a host name", path=f"{path}.hostnames")
    return ip, tuple(names)


def _dns(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """nameservers and searches of dnsConfig, checked: they become lines of a file."""
    dns = read_mapping(spec, "dnsConfig", "spec")
    servers = read_texts(dns, "nameservers", "spec.dnsConfig") or []
    for server in servers:
        check_ip(server, "spec.dnsConfig.nameservers")
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


def _check_system(spec: Mapping[str, Any]) -> None:
    """Before all else: what a pod of another system has in its other fields need not make sense here."""
    if read(read_mapping(spec, "os", "spec"), "name", str, "spec.os", "") not in ("", "linux"):
        message = "Failed to admit pod as the OS field doesn't match node OS"
        raise NotAdmitted("PodOSNotSupported", message, path="spec.os.name")


def _names_of_host(spec: Mapping[str, Any], pod_name: str) -> tuple[str, str]:
    """(hostname, subdomain). hostnameOverride is the whole name, whatever the other two say."""
    # a pod's name may have dots, which a hostname that is said may not
    hostname = read_name(spec, "hostname", "spec", LABEL) if spec.get("hostname") else pod_name[:63].rstrip("-.")
    subdomain = read_name(spec, "subdomain", "spec", LABEL) if spec.get("subdomain") else ""
    if not spec.get("hostnameOverride"):
        return hostname, subdomain
    whole, path = read_name(spec, "hostnameOverride", "spec", _SUBDOMAIN), "spec.hostnameOverride"
    if len(whole) > _MAX_HOSTNAME:
        raise Invalid(f"longer than {_MAX_HOSTNAME} characters", path=path)
    for field in ("hostNetwork", "setHostnameAsFQDN"):
        if spec.get(field):
            raise Invalid(f"not together with {field}", path=path)
    return whole, ""


def _readiness_gates(obj: Object, spec: Mapping[str, Any]) -> Mapping[str, str]:
    """Type of condition -> its status; "" for one that nobody has set."""
    status: dict[str, str] = {}
    for condition in read_list(read_mapping(obj, "status", ""), "conditions", "status"):
        said = mapping_of(condition, "status.conditions")
        status[read(said, "type", str, "status.conditions", "")] = read(said, "status", str, "status.conditions", "")
    gates = {}
    for n, gate in enumerate(read_list(spec, "readinessGates", "spec")):
        path = f"spec.readinessGates[{n}]"
        kind = read(mapping_of(gate, path), "conditionType", str, path, "")
        gates[kind] = status.get(kind, "")
    return gates


def _volume(item: Any, path: str) -> VolumeSpec:
    v = mapping_of(item, path)
    name = read_name(v, "name", path, LABEL)
    for kind in (*VOLUME_KINDS, IMAGE_VOLUME):
        if kind in v:
            source = read_mapping(v, kind, path)
            check_texts(source, f"{path}.{kind}")
            if kind == IMAGE_VOLUME:
                _check_image(source, f"{path}.image")
            if kind == "persistentVolumeClaim":
                read_name(source, "claimName", f"{path}.{kind}", _SUBDOMAIN)
            if kind == "csi" and not read(source, "driver", str, f"{path}.csi", ""):
                raise Invalid("required", path=f"{path}.csi.driver")
            if kind == "nfs":
                _check_nfs(source, f"{path}.nfs")
            if kind == "emptyDir":
                _check_medium(source, f"{path}.emptyDir.medium")
            return VolumeSpec(name, kind, source)
    kinds = [key for key in v if key != "name"]
    if not kinds:
        return VolumeSpec(name, "emptyDir", {})
    raise Unsupported(f"volumes of type {kinds[0]} are not supported here", path=path)


def _check_image(source: Mapping[str, Any], path: str) -> None:
    if not read(source, "reference", str, path, ""):
        raise Invalid("required", path=f"{path}.reference")
    read_choice(source, "pullPolicy", path, ("", "Always", "IfNotPresent", "Never"))


def _check_nfs(source: Mapping[str, Any], path: str) -> None:
    for field in ("server", "path"):
        if not read(source, field, str, path, ""):
            raise Invalid("required", path=f"{path}.{field}")


def _check_medium(source: Mapping[str, Any], path: str) -> None:
    medium = source.get("medium") or ""
    if isinstance(medium, str) and medium.startswith("HugePages"):
        raise Unsupported(f"{medium!r:.60} is not supported here", path=path)
    if medium not in ("", "Memory"):
        raise UnknownValue(f"{medium!r:.60} is none of Memory, HugePages", path=path)
