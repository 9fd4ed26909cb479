"""Which fields of a Pod have an effect on a node, by type of the schema. What has none is named to the user, never passed over.

Each field of each type that a PodSpec can hold (api/schema_table.py) is in one of the two tables below or in neither: then it is named in
an event. A field that the schema does not know is named too. A test holds the tables against the schema, so that a new field needs a decision.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from kubeedge.api import schema

_HONOURED = """
PodSpec volumes initContainers containers restartPolicy terminationGracePeriodSeconds hostNetwork securityContext imagePullSecrets
PodSpec hostname subdomain hostAliases dnsConfig serviceAccountName serviceAccount hostUsers dnsPolicy ephemeralContainers
PodSpec enableServiceLinks runtimeClassName activeDeadlineSeconds hostPID hostIPC shareProcessNamespace setHostnameAsFQDN
PodSpec hostnameOverride readinessGates os resources
ReadinessGate conditionType
LocalRef name
HostAlias ip hostnames
PodDNSConfig nameservers searches options
PodDNSConfigOption name value
SeccompProfile type localhostProfile
AppArmorProfile type localhostProfile
Sysctl name value
PodSecurityContext runAsUser runAsGroup runAsNonRoot supplementalGroups fsGroup seccompProfile appArmorProfile sysctls
PodSecurityContext supplementalGroupsPolicy fsGroupChangePolicy
Container name image command args workingDir ports envFrom env resources restartPolicy volumeMounts livenessProbe readinessProbe
Container startupProbe lifecycle terminationMessagePath terminationMessagePolicy imagePullPolicy securityContext stdin stdinOnce
Container tty resizePolicy restartPolicyRules targetContainerName
ResizePolicy resourceName restartPolicy
RestartRule action exitCodes
RestartExitCodes operator values
ContainerPort name hostPort containerPort protocol hostIP
EnvFrom prefix configMapRef secretRef
OptionalRef name optional
EnvVar name value valueFrom
EnvSource fieldRef resourceFieldRef configMapKeyRef secretKeyRef fileKeyRef
FileKeyRef volumeName path key optional
FieldRef apiVersion fieldPath
ResourceFieldRef containerName resource divisor
KeyRef name key optional
ResourceRequirements limits requests
VolumeMount name readOnly recursiveReadOnly mountPath subPath mountPropagation subPathExpr
Probe exec httpGet tcpSocket grpc initialDelaySeconds timeoutSeconds periodSeconds successThreshold failureThreshold
Probe terminationGracePeriodSeconds
ExecAction command
HTTPGet scheme path port host httpHeaders
HTTPHeader name value
TCPSocket port host
GRPCAction port service
Lifecycle postStart preStop stopSignal
LifecycleHandler exec httpGet tcpSocket sleep
SleepAction seconds
SecurityContext capabilities privileged runAsUser runAsGroup runAsNonRoot readOnlyRootFilesystem allowPrivilegeEscalation seccompProfile
SecurityContext appArmorProfile procMount
Capabilities add drop
Volume name hostPath emptyDir configMap secret downwardAPI projected image persistentVolumeClaim ephemeral nfs csi
ImageVolume reference pullPolicy
PersistentVolumeClaimVolume claimName readOnly
NFSVolume server path readOnly
CSIVolume driver readOnly fsType volumeAttributes nodePublishSecretRef
EphemeralVolume volumeClaimTemplate
HostPath path type
EmptyDir medium sizeLimit
ConfigMapVolume name items defaultMode optional
SecretVolume secretName items defaultMode optional
KeyToPath key path mode
DownwardVolume items defaultMode
DownwardFile path fieldRef resourceFieldRef mode
ProjectedVolume sources defaultMode
Projection configMap secret downwardAPI serviceAccountToken clusterTrustBundle podCertificate
ServiceAccountToken path audience expirationSeconds
ClusterTrustBundle name signerName labelSelector optional path
PodCertificate signerName keyType maxExpirationSeconds credentialBundlePath keyPath certificateChainPath userAnnotations
ProjectedSecret name items optional
"""
_ELSEWHERE = """
PodSpec nodeName nodeSelector affinity tolerations schedulerName priority priorityClassName preemptionPolicy topologySpreadConstraints
PodSpec automountServiceAccountToken schedulingGates overhead schedulingGroup workloadRef evictionResponders
"""  # the scheduler's and the controllers', also those of other releases (workloadRef is schedulingGroup in 1.35)

#: parts that the schema keeps as they come
INNER: Mapping[str, tuple[str, bool]] = {  # field -> (type, is a list)
    "PodSpec.dnsConfig": ("PodDNSConfig", False),
    "Projection.serviceAccountToken": ("ServiceAccountToken", False),
    "Projection.clusterTrustBundle": ("ClusterTrustBundle", False),
    "Projection.podCertificate": ("PodCertificate", False),
    "PodDNSConfig.options": ("PodDNSConfigOption", True),
    "Volume.persistentVolumeClaim": ("PersistentVolumeClaimVolume", False),
    "Volume.nfs": ("NFSVolume", False),
    "Volume.csi": ("CSIVolume", False),
    "Volume.ephemeral": ("EphemeralVolume", False),
    "PodSecurityContext.seccompProfile": ("SeccompProfile", False),
    "SecurityContext.seccompProfile": ("SeccompProfile", False),
    "PodSecurityContext.appArmorProfile": ("AppArmorProfile", False),
    "SecurityContext.appArmorProfile": ("AppArmorProfile", False),
}
_RESOURCES = ("cpu", "memory", "ephemeral-storage")
_HUGE_PAGES = "hugepages-"


@functools.cache
def decided() -> frozenset[str]:
    """ "Type.field" of all that has an effect, here or elsewhere."""
    return _names(_HONOURED) | elsewhere()


@functools.cache
def elsewhere() -> frozenset[str]:
    """ "Type.field" of what others do: what is inside of it is theirs, too."""
    return _names(_ELSEWHERE)


def _names(table: str) -> frozenset[str]:
    lines = table.split("\n")
    return frozenset(
        f"{kind}.{field}" for line in lines if line for kind, *fields in (line.split(),) for field in fields
    )


def without_effect(spec: Mapping[str, Any]) -> list[str]:
    """Paths of what a PodSpec says and nothing here does."""
    return list(_walk("PodSpec", spec, "spec"))


def _walk(kind: str, values: Any, path: str) -> Iterator[str]:
    if not isinstance(values, dict):
        return
    for name, value in values.items():
        field, where = f"{kind}.{name}", f"{path}.{name}"
        if value is None or value is False:
            continue
        if field not in decided():
            yield where
        elif kind == "ResourceRequirements":
            yield from (
                f"{where}.{resource}"
                for resource in value
                if resource not in _RESOURCES and not resource.startswith(_HUGE_PAGES)
            )
        elif field not in elsewhere():
            yield from _inside(field, kind, name, value, where)


def _inside(field: str, kind: str, name: str, value: Any, path: str) -> Iterator[str]:
    inner, is_list = INNER.get(field, ("", False))
    known = (schema.fields_of(kind) or {}).get(name)
    if known is not None and not inner:
        inner, is_list = known.type, known.shape == "list"
        if schema.fields_of(inner) is None:
            return
    if not inner:
        return
    if is_list and isinstance(value, list):
        for n, item in enumerate(value):
            yield from _walk(inner, item, f"{path}[{n}]")
    elif not is_list:
        yield from _walk(inner, value, path)
