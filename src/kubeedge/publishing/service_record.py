"""What `kubeedge publish` keeps in the node's store: /reported/webservices/_/NAME. Pure: the value before in, the value after out.

    {"target": "127.0.0.1:8080", "access": "token", "tokens": [hex SHA-256, ...]}

Lives elsewhere: what the value means (servicetable, kubebus.http.access); the store and random tokens (published.py).
"""

from __future__ import annotations

import json
from typing import Any

from kubeedge.api.names import JsonObject
from kubeedge.config import forms
from kubeedge.errors import Invalid
from kubeedge.kubebus.http import access


def parsed(value: bytes) -> JsonObject:
    """The object in a row; {} when it is no JSON object."""
    try:
        known = json.loads(value)
    except (ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) else {}


def registered(before: JsonObject | None, target: str | None, kind: str | None) -> dict[str, Any]:
    """The service with another target or another access; what is not said stays as it was. Raises Invalid."""
    target = target or (before or {}).get("target")
    if not isinstance(target, str):
        raise Invalid("where does it listen? PORT or HOST:PORT is required for a new service", path="target")
    try:
        forms.endpoint(target)
    except ValueError as exc:
        raise Invalid(f"{target!r:.80} {exc}", path="target") from exc
    kind = kind or str((before or {}).get("access", "public"))
    if kind not in access.KINDS:
        raise Invalid(f"{kind!r:.40}; it must be one of {', '.join(access.KINDS)}", path="access")
    after: dict[str, Any] = {"target": target}
    if kind != "public":
        after["access"] = kind
    if kind == "token":
        after["tokens"] = _tokens(before or {})
    return after


def with_token(before: JsonObject, name: str, token: str) -> dict[str, Any]:
    """The record with one more token that grants access. Raises Invalid."""
    tokens = _guarded(before, name)
    if len(tokens) >= access.MAX_TOKENS:
        raise Invalid(f"web service {name} has {len(tokens)} tokens already; --revoke-tokens ends all of them")
    return {**before, "tokens": [*tokens, access.hashed(token)]}


def without_tokens(before: JsonObject, name: str) -> dict[str, Any]:
    """Nothing opens it until it gets a new token. Raises Invalid."""
    _guarded(before, name)
    return {**before, "tokens": []}


def access_shown(value: JsonObject) -> str:
    """The access for display: "public", "tenant", "token (2)"."""
    try:
        policy = access.policy_of(value)
    except ValueError:
        return f"{value.get('access')!r:.40} (access denied)"
    return f"token ({len(policy.tokens)})" if policy.access == "token" else policy.access


def target_shown(value: JsonObject) -> str:
    """The target for display; "" when the row makes no sense."""
    if "target" in value:
        return str(value["target"])
    if not value:
        return ""
    labels = value.get("selector")
    pods = ",".join(f"{key}={label}" for key, label in labels.items()) if isinstance(labels, dict) else ""
    return f"pods {value.get('namespace')}/{pods} port {value.get('port')}"


def _guarded(value: JsonObject, name: str) -> list[str]:
    if value.get("access") != "token":
        raise Invalid(
            f"web service {name} has access {value.get('access', 'public')}, so a token would guard nothing; "
            f"`kubeedge publish {name} --access token` asks for one"
        )
    return _tokens(value)


def _tokens(value: JsonObject) -> list[str]:
    tokens = value.get("tokens")
    return [t for t in tokens if isinstance(t, str)] if isinstance(tokens, list) else []
