"""The rows of the built-in resources: everything that the API knows of them, kind by kind."""

from __future__ import annotations

from kubeedge.api import defaults, validation_leases, validation_networkpolicies
from kubeedge.api import validation_kinds as rules
from kubeedge.api.resources import (
    CONFIGMAPS,
    DAEMONSETS,
    DEPLOYMENTS,
    ENDPOINTS,
    ENDPOINTSLICES,
    EVENTS,
    LEASES,
    NAMESPACES,
    NETWORKPOLICIES,
    NODES,
    PODS,
    REPLICASETS,
    SECRETS,
    SERVICEACCOUNTS,
    SERVICES,
    Row,
    Strategy,
)
from kubeedge.apiserver import printers

BUILT_IN: tuple[Row, ...] = (
    Row(
        CONFIGMAPS,
        "configmap",
        ("cm",),
        strategy=Strategy("ConfigMap", validate=rules.configmap, validate_update=rules.data_changes),
        printer=printers.CONFIGMAPS,
    ),
    Row(ENDPOINTS, "endpoints", ("ep",), strategy=Strategy("Endpoints"), printer=printers.ENDPOINTS),
    Row(
        EVENTS,
        "event",
        ("ev",),
        fields=(
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ),
        strategy=Strategy("Event", validate=rules.event),
        printer=printers.EVENTS,
    ),
    Row(
        NAMESPACES,
        "namespace",
        ("ns",),
        subresources=("status", "finalize"),
        fields=("status.phase",),
        name_rule="label",
        strategy=Strategy("Namespace", fill=defaults.namespace),
        printer=printers.NAMESPACES,
    ),
    Row(
        NODES,
        "node",
        ("no",),
        subresources=("status",),
        fields=("spec.unschedulable",),
        strategy=Strategy("Node", fill=defaults.node, validate=rules.node),
        printer=printers.NODES,
    ),
    Row(
        PODS,
        "pod",
        ("po",),
        ("all",),
        (
            "status",
            "log",
            "binding",
            "eviction",
            "exec",
            "attach",
            "portforward",
            "ephemeralcontainers",
            "resize",
        ),
        (
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ),
        answers_deleted=True,
        counts_generation=True,
        strategy=Strategy("Pod", fill=defaults.pod, validate=rules.pod, validate_update=rules.pod_changes),
        printer=printers.PODS,
    ),
    Row(
        SECRETS,
        "secret",
        fields=("type",),
        strategy=Strategy("Secret", fill=defaults.secret, validate=rules.secret, validate_update=rules.secret_changes),
        printer=printers.SECRETS,
    ),
    Row(
        SERVICEACCOUNTS,
        "serviceaccount",
        ("sa",),
        subresources=("token",),
        answers_deleted=True,
        strategy=Strategy("ServiceAccount"),
        printer=printers.SERVICEACCOUNTS,
    ),
    Row(
        SERVICES,
        "service",
        ("svc",),
        ("all",),
        ("status",),
        ("spec.clusterIP", "spec.type"),
        name_rule="label",
        answers_deleted=True,
        strategy=Strategy(
            "Service", fill=defaults.service, validate=rules.service, validate_update=rules.service_changes
        ),
        printer=printers.SERVICES,
    ),
    Row(
        DAEMONSETS,
        "daemonset",
        ("ds",),
        ("all",),
        ("status",),
        counts_generation=True,
        strategy=Strategy(
            "DaemonSet", fill=defaults.daemonset, validate=rules.daemonset, validate_update=rules.workload_changes
        ),
        printer=printers.DAEMONSETS,
    ),
    Row(
        DEPLOYMENTS,
        "deployment",
        ("deploy",),
        ("all",),
        ("status", "scale"),
        counts_generation=True,
        strategy=Strategy(
            "Deployment", fill=defaults.deployment, validate=rules.deployment, validate_update=rules.workload_changes
        ),
        printer=printers.DEPLOYMENTS,
    ),
    Row(
        REPLICASETS,
        "replicaset",
        ("rs",),
        ("all",),
        ("status", "scale"),
        ("status.replicas",),
        counts_generation=True,
        strategy=Strategy(
            "ReplicaSet", fill=defaults.replicaset, validate=rules.workload, validate_update=rules.workload_changes
        ),
        printer=printers.REPLICASETS,
    ),
    Row(
        ENDPOINTSLICES,
        "endpointslice",
        strategy=Strategy(
            "EndpointSlice",
            fill=defaults.endpointslice,
            validate=rules.endpointslice,
            validate_update=rules.slice_changes,
        ),
        printer=printers.ENDPOINTSLICES,
    ),
    Row(
        NETWORKPOLICIES,
        "networkpolicy",
        ("netpol",),
        counts_generation=True,
        strategy=Strategy(
            "NetworkPolicy", fill=defaults.networkpolicy, validate=validation_networkpolicies.networkpolicy
        ),
        printer=printers.NETWORKPOLICIES,
    ),
    Row(LEASES, "lease", strategy=Strategy("Lease", validate=validation_leases.lease), printer=printers.LEASES),
)
