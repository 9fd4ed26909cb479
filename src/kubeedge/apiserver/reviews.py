"""authentication.k8s.io and authorization.k8s.io: who a user is and what they may do. `kubectl auth can-i` and `whoami` ask here.

Users with a certificate may do everything in their own cluster; service accounts what their rules say.
"""

from __future__ import annotations

from typing import Any

from kubeedge.api.access import Attributes
from kubeedge.api.names import Object
from kubeedge.api.status import Forbidden, NoSuchPath
from kubeedge.apiserver.accounts import AccountIdentity, user_info
from kubeedge.apiserver.registry import Registry
from kubeedge.pki.identity import UserIdentity

_PUBLIC = ("/api", "/apis", "/healthz", "/livez", "/readyz", "/openapi", "/openid", "/version", "/.well-known")


async def review(
    registry: Registry, identity: UserIdentity, method: str, resource: tuple[str, str], body: Object
) -> Object:
    """The review with its status. Raises NoSuchPath, Forbidden, BadRequest."""
    spec = body.get("spec")
    spec = spec if isinstance(spec, dict) else {}
    group, plural = resource
    match group, plural, method:
        case "authorization.k8s.io", "selfsubjectaccessreviews", "POST":
            kind, status = "SelfSubjectAccessReview", _access(identity, spec)
        case "authorization.k8s.io", "selfsubjectrulesreviews", "POST":
            kind, status = "SelfSubjectRulesReview", _rules(identity, spec)
        case "authentication.k8s.io", "selfsubjectreviews", "POST":
            kind, status = "SelfSubjectReview", {"userInfo": _user(registry, identity)}
        case "authentication.k8s.io", "tokenreviews", "POST":
            if isinstance(identity, AccountIdentity):
                raise Forbidden(
                    f'tokenreviews.authentication.k8s.io is forbidden: User "{identity.user}" cannot create it'
                )
            if registry.accounts is None:
                raise NoSuchPath
            kind, status = "TokenReview", await registry.accounts.review(body)
            spec = {key: value for key, value in spec.items() if key != "token"}
        case _:
            raise NoSuchPath
    return {"kind": kind, "apiVersion": f"{group}/v1", "metadata": {}, "spec": spec, "status": status}


def _access(identity: UserIdentity, spec: Object) -> Object:
    if not isinstance(identity, AccountIdentity):
        return {"allowed": True, "reason": "users of a tenant may do everything in their cluster"}
    of, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if isinstance(of, dict):
        plural, subresource = _text(of, "resource"), _text(of, "subresource")
        resource = f"{plural}/{subresource}" if subresource else plural
        asked = Attributes(_text(of, "verb"), _text(of, "group"), resource, _text(of, "namespace"), _text(of, "name"))
        return {"allowed": identity.may(asked)}
    if isinstance(path, dict):
        return {"allowed": _text(path, "verb") in ("get", "head") and _text(path, "path").startswith(_PUBLIC)}
    return {"allowed": False}


def _rules(identity: UserIdentity, spec: Object) -> Object:
    if not isinstance(identity, AccountIdentity):
        rules: list[Any] = [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]
        paths: list[Any] = [{"verbs": ["*"], "nonResourceURLs": ["*"]}]
    else:
        rules = list(identity.rules) if _text(spec, "namespace") == identity.namespace else []
        paths = [{"verbs": ["get"], "nonResourceURLs": [url for p in _PUBLIC for url in (p, f"{p}/*")]}]
    return {"resourceRules": rules, "nonResourceRules": paths, "incomplete": False}


def _user(registry: Registry, identity: UserIdentity) -> Object:
    if isinstance(identity, AccountIdentity):
        return user_info(identity.claims)
    return {"username": identity.user, "groups": ["system:authenticated", f"tenant:{registry.tenant}"]}


def _text(values: Object, key: str) -> str:
    return str(values.get(key) or "")
