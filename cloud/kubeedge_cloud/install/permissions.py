"""What the cloud side may do in a cluster, each with its reason: the ClusterRole of the chart is made of this table, and of nothing else.

What concerns one node alone (its Secrets, the status of its pods, its Lease) is done in the name of that node, so that the cluster's own Node
authorizer and NodeRestriction decide about it, and is not here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class AccessRule:
    """Rights on resources of one API group, and why."""

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    why: str
    names: tuple[str, ...] = ()  # of objects; none: all

    def asked(self) -> Iterator[tuple[str, str, str]]:
        """Group, resource and verb of each right."""
        for resource in self.resources:
            for verb in self.verbs:
                yield self.group, resource, verb


_READ = ("get", "list", "watch")

RULES = (
    AccessRule(
        "", ("nodes", "pods", "services"), _READ, "watched once for all nodes, and told to those that they concern"
    ),
    AccessRule(
        "",
        ("nodes",),
        ("create", "patch", "delete"),
        "a machine that joins becomes a Node; one that is removed is none",
    ),
    AccessRule(
        "",
        ("pods",),
        ("patch",),
        "tolerations of those that are labelled to go on while their node is away, and nothing else",
    ),
    AccessRule("", ("events",), ("create", "patch"), "what happens to nodes and pods, where their user looks"),
    AccessRule(
        "",
        ("configmaps",),
        ("get",),
        "authorities of the clients' certificates at the kubelet ports, in kube-system",
        names=("extension-apiserver-authentication",),
    ),
    AccessRule(
        "discovery.k8s.io", ("endpointslices",), ("get", "list", "watch"), "where the Services of edge pods lead"
    ),
    AccessRule(
        "devices.kubeedge.io",
        ("devices",),
        (*_READ, "create", "delete", "patch"),
        "devices are handed to their nodes, whose finalizer waits for the end there; a scan makes new ones, which approval may rename",
    ),
    AccessRule("devices.kubeedge.io", ("devicemodels",), _READ, "a device is handed over with its model"),
    AccessRule("devices.kubeedge.io", ("devices/status",), ("patch",), "what the devices report"),
    AccessRule("networking.k8s.io", ("networkpolicies",), _READ, "enforced on the nodes of the pods that they select"),
    AccessRule("", ("namespaces",), _READ, "which ones the policies mean by their labels"),
    AccessRule("authentication.k8s.io", ("tokenreviews",), ("create",), "whose a token at a kubelet port is"),
    AccessRule("authorization.k8s.io", ("subjectaccessreviews",), ("create",), "what its user may do at the node"),
    AccessRule("", ("users",), ("impersonate",), "what concerns one node is done as system:node:NAME"),
    AccessRule(
        "",
        ("serviceaccounts",),
        ("impersonate",),
        "what an account of a pod may read is asked in its name, for the node's own API",
    ),
    AccessRule("", ("groups",), ("impersonate",), "nodes are in this group, and in no other", names=("system:nodes",)),
)

#: where kubelets.approveCertificates is on; the requests themselves are made by the nodes
APPROVAL_RULES = (
    AccessRule(
        "certificates.k8s.io",
        ("certificatesigningrequests/approval",),
        ("update",),
        "serving certificates of the nodes' kubelet ports, which the cloud has asked for itself",
    ),
    AccessRule(
        "certificates.k8s.io",
        ("signers",),
        ("approve",),
        "by the signer of kubelets' serving certificates, and no other",
        names=("kubernetes.io/kubelet-serving",),
    ),
)

_GATEWAY = "gateway.networking.k8s.io"
#: where publishing.clusterGateways is on
GATEWAY_RULES = (
    AccessRule(
        _GATEWAY,
        ("gatewayclasses", "gateways", "httproutes", "tlsroutes", "tcproutes", "referencegrants"),
        _READ,
        "which requests from outside lead to which pods",
    ),
    AccessRule(
        _GATEWAY,
        ("gatewayclasses/status", "gateways/status", "httproutes/status", "tlsroutes/status", "tcproutes/status"),
        ("patch",),
        "addresses and conditions of those of our class",
    ),
    AccessRule("networking.k8s.io", ("ingresses", "ingressclasses"), _READ, "the same by Ingresses of our class"),
    AccessRule("networking.k8s.io", ("ingresses/status",), ("patch",), "their addresses"),
    AccessRule("", ("secrets",), _READ, "certificates that listeners show; Gateways may refer to any Secret"),
)

#: where devices.enabled is on
DEVICE_RULES = (
    AccessRule(
        "apiextensions.k8s.io",
        ("customresourcedefinitions",),
        ("get", "patch"),
        "where devices of v1alpha2 are converted, and by which authority that address is proved",
        names=("devices.devices.kubeedge.io", "devicemodels.devices.kubeedge.io"),
    ),
    AccessRule("rules.kubeedge.io", ("rules", "ruleendpoints"), _READ, "which messages and requests lead where"),
    AccessRule("rules.kubeedge.io", ("rules/status",), ("patch",), "how many there were"),
)


def rules(table: Iterable[AccessRule] = RULES) -> list[dict[str, Any]]:
    """The rules of a ClusterRole that grants the rows of a table."""
    return [
        {
            "apiGroups": [rule.group],
            "resources": list(rule.resources),
            **({"resourceNames": list(rule.names)} if rule.names else {}),
            "verbs": list(rule.verbs),
        }
        for rule in table
    ]


def rules_file(table: Iterable[AccessRule] = RULES) -> str:
    """files/rules.yaml of the chart, and approval-rules.yaml, gateway-rules.yaml and device-rules.yaml of the other tables: the same with the reasons."""
    lines = ["# made by `make manifests` from kubeedge_cloud/install/permissions.py"]
    for rule in table:
        lines += [
            f"# {rule.why}",
            f'- apiGroups: ["{rule.group}"]',
            f"  resources: [{', '.join(rule.resources)}]",
            *([f"  resourceNames: [{', '.join(map(repr, rule.names))}]"] if rule.names else []),
            f"  verbs: [{', '.join(rule.verbs)}]",
        ]
    return "\n".join(lines) + "\n"


def summary(rights: Iterable[tuple[str, str, str, str]]) -> str:
    """Rights (verb, API group, resource, namespace or "") for a reader: resources with the same verbs are named together."""
    verbs: dict[str, dict[str, None]] = {}
    for verb, group, resource, where in rights:
        what = f"{resource}{f'.{group}' if group else ''}{f' in {where}' if where else ''}"
        verbs.setdefault(what, {})[verb] = None
    together: dict[str, list[str]] = {}
    for what, named in verbs.items():
        together.setdefault(", ".join(named), []).append(what)
    return "; ".join(f"{named} on {', '.join(resources)}" for named, resources in together.items())
