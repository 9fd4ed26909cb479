"""Serving certificates of nodes as a cluster's CSR API gives them: what is asked for, and what came of it. Pure.

CertificateSigningRequests of certificates.k8s.io/v1 for the signer kubernetes.io/kubelet-serving, which demands: the organization
system:nodes, the user's own name, DNS names or addresses and no other names, these usages. API servers that check the name of a kubelet's
certificate (KEP-4872) find it there.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kubeedge.api.client import Resource
from kubeedge.api.names import NodeName, Object

REQUESTS = Resource(
    "certificates.k8s.io", "v1", "certificatesigningrequests", "CertificateSigningRequest", namespaced=False
)
SIGNER = "kubernetes.io/kubelet-serving"
ORGANIZATION = "system:nodes"
_USAGES = ("digital signature", "server auth")  # of a key that does not encipher
_MAX_CERTIFICATE = 64 * 1024  # bytes of PEM; one of ours and its chain have a few thousand


def user_of_node(node: NodeName) -> str:
    """The user name of a node in the cluster, which is the common name of its certificate."""
    return f"system:node:{node}"


def new_request(name: str, pem: bytes) -> Object:
    """To be created in the name of the node. How long the certificate is valid is up to the signer."""
    return {
        "metadata": {"name": name},
        "spec": {"request": base64.b64encode(pem).decode(), "signerName": SIGNER, "usages": list(_USAGES)},
    }


def is_request(obj: Mapping[str, Any], pem: bytes) -> bool:
    """Whether that object asks for just this."""
    spec = obj.get("spec") or {}
    return spec.get("request") == base64.b64encode(pem).decode() and spec.get("signerName") == SIGNER


def approved(obj: Object, message: str, now: str) -> Object:
    """The request with the condition that lets the signer sign it. `now` is in RFC 3339."""
    condition = {
        "type": "Approved", "status": "True", "reason": "KubeEdgeApproved", "message": message, "lastUpdateTime": now,
    }  # fmt: skip
    return {**obj, "status": {**(obj.get("status") or {}), "conditions": [*_conditions(obj), condition]}}


@dataclass(frozen=True, slots=True)
class SigningOutcome:
    """What became of a request. Neither: it is not decided yet, or the signer has not signed yet."""

    certificate: bytes = b""  # PEM
    refusal: str = ""


def outcome(obj: Mapping[str, Any]) -> SigningOutcome:
    """A certificate that cannot be decoded, or is too large, counts as refused."""
    for condition in _conditions(obj):
        if condition.get("type") in ("Denied", "Failed") and condition.get("status", "True") == "True":
            reason = condition.get("message") or condition.get("reason") or "without a reason"
            return SigningOutcome(refusal=f"{condition['type']}: {reason}")
    encoded = (obj.get("status") or {}).get("certificate") or ""
    if not encoded:
        return SigningOutcome()
    if len(encoded) > _MAX_CERTIFICATE * 4 // 3:
        return SigningOutcome(refusal=f"a certificate of {len(encoded)} characters")
    try:
        return SigningOutcome(base64.b64decode(encoded, validate=True))
    except (binascii.Error, ValueError) as exc:
        return SigningOutcome(refusal=f"a certificate that is not base64: {exc}")


def _conditions(obj: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = (obj.get("status") or {}).get("conditions") or ()
    return [condition for condition in found if isinstance(condition, dict)]
