"""What the cloud side may do in a cluster, and no more: the role that users bind to its account (docs/guide/kubernetes.md has the same)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

ACCOUNT = "kubeedge-cloud"  # a user, here; a ServiceAccount in a cluster


def _rule(group: str, resources: list[str], verbs: list[str]) -> dict[str, Any]:
    return {"apiGroups": [group], "resources": resources, "verbs": verbs}


RULES = [
    _rule("", ["nodes"], ["get", "list", "watch", "create", "patch", "delete"]),
    _rule("", ["pods", "services"], ["get", "list", "watch"]),
    _rule("", ["pods"], ["patch"]),
    _rule("discovery.k8s.io", ["endpointslices"], ["get", "list", "watch"]),
    _rule("devices.kubeedge.io", ["devices"], ["get", "list", "watch", "patch"]),
    _rule("devices.kubeedge.io", ["devicemodels"], ["get", "list", "watch"]),
    _rule("devices.kubeedge.io", ["devices/status"], ["patch"]),
    _rule("networking.k8s.io", ["networkpolicies"], ["get", "list", "watch"]),
    _rule("", ["namespaces"], ["get", "list", "watch"]),
    {"nonResourceURLs": ["/openid/v1/jwks"], "verbs": ["get"]},
    _rule("", ["events"], ["create", "patch"]),
    _rule("", ["configmaps"], ["get"]) | {"resourceNames": ["extension-apiserver-authentication"]},
    _rule("authentication.k8s.io", ["tokenreviews"], ["create"]),
    _rule("authorization.k8s.io", ["subjectaccessreviews"], ["create"]),
    _rule("", ["users", "groups", "serviceaccounts"], ["impersonate"]),
]

#: where the cloud approves the serving certificates that it asks for
APPROVAL = [
    _rule("certificates.k8s.io", ["certificatesigningrequests/approval"], ["update"]),
    _rule("certificates.k8s.io", ["signers"], ["approve"]) | {"resourceNames": ["kubernetes.io/kubelet-serving"]},
]

#: where devices of v1alpha2 are converted, and rules are served
DEVICES = [
    _rule("apiextensions.k8s.io", ["customresourcedefinitions"], ["get", "patch"])
    | {"resourceNames": ["devices.devices.kubeedge.io", "devicemodels.devices.kubeedge.io"]},
    _rule("rules.kubeedge.io", ["rules", "ruleendpoints"], ["get", "list", "watch"]),
    _rule("rules.kubeedge.io", ["rules/status"], ["patch"]),
]

_GATEWAY = "gateway.networking.k8s.io"
#: where publishing.clusterGateways is on
GATEWAYS = [
    _rule(_GATEWAY, ["gatewayclasses", "gateways", "httproutes", "tlsroutes", "tcproutes"], ["get", "list", "watch"]),
    _rule(_GATEWAY, ["referencegrants"], ["get", "list", "watch"]),
    _rule(
        _GATEWAY,
        ["gatewayclasses/status", "gateways/status", "httproutes/status", "tlsroutes/status", "tcproutes/status"],
        ["patch"],
    ),
    _rule("networking.k8s.io", ["ingresses", "ingressclasses"], ["get", "list", "watch"]),
    _rule("networking.k8s.io", ["ingresses/status"], ["patch"]),
    _rule("", ["secrets"], ["get", "list", "watch"]),
]


def objects(more: Sequence[dict[str, Any]] = ()) -> list[dict[str, Any]]:
    """The role and its binding; `more` rules."""
    rbac = "rbac.authorization.k8s.io"
    name = {"name": ACCOUNT}
    return [
        {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": name, "rules": [*RULES, *more]},
        {
            "apiVersion": f"{rbac}/v1", "kind": "ClusterRoleBinding", "metadata": name,
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": ACCOUNT},
            "subjects": [{"apiGroup": rbac, "kind": "User", "name": ACCOUNT}],
        },
    ]  # fmt: skip
