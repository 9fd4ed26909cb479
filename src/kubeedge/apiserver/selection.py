"""Which objects a list or watch is about: a key range and a predicate; and how a change looks through it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Literal

from kubeedge.api import keys, meta, selectors
from kubeedge.api.client import Resource, WatchEvent
from kubeedge.api.names import Object, TenantId
from kubeedge.api.resources import Row
from kubeedge.api.status import BadRequest
from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Selection:
    """`key` is a prefix, or with `single` one key."""

    key: str
    single: bool
    matches: Callable[[Object], bool] | None  # None: all of them

    @property
    def end(self) -> str:
        """The end of the key range; "" when it is one key."""
        return "" if self.single else keys.prefix_end(self.key)

    def covers(self, key: str) -> bool:
        """Is the key in the range?"""
        return key == self.key if self.single else key.startswith(self.key)

    def wants(self, obj: Object) -> bool:
        """Whether the selectors match an object."""
        return self.matches is None or self.matches(obj)


def prefix(tenant: TenantId, resource: Resource, namespace: str = "") -> str:
    """The prefix of the keys of a resource, or of those in one namespace."""
    base = f"{keys.registry(tenant)}{resource.group or 'core'}/{resource.plural}/"
    return f"{base}{namespace}/" if namespace and resource.namespaced else base


def key(tenant: TenantId, resource: Resource, namespace: str, name: str) -> str:
    """Raises BadRequest for names that cannot be a part of a key; they cannot exist either."""
    for part in (name, namespace) if resource.namespaced else (name,):
        if not part or len(part) > 253 or "/" in part or "\0" in part:
            raise BadRequest(f"{part[:253]!r} cannot name {resource.plural} or their namespace")
    return prefix(tenant, resource, namespace) + name


def select(tenant: TenantId, row: Row, namespace: str, label_selector: str, field_selector: str) -> Selection:
    """What the selectors of a request select. Raises BadRequest for a malformed one."""
    resource = row.resource
    try:
        labels = selectors.parse_labels(label_selector)
        fields = selectors.parse_fields(field_selector, row.fields)
    except Invalid as exc:
        raise BadRequest(str(exc)) from exc
    if resource.namespaced and not namespace:
        namespace = fields.exact("metadata.namespace") or ""
    matches = selectors.matcher(labels, fields)
    name = fields.exact("metadata.name")
    if name and (namespace or not resource.namespaced):
        return Selection(key(tenant, resource, namespace, name), True, matches)
    if "/" in namespace or len(namespace) > 253:
        raise BadRequest(f"{namespace[:253]!r} cannot name a namespace")
    return Selection(prefix(tenant, resource, namespace), False, matches)


def seen(selection: Selection, before: Object | None, after: Object | None, size: int = 0) -> WatchEvent | None:
    """One change of `size` bytes through a selector: what stops matching is DELETED (as it was), what starts matching is ADDED."""
    was = before is not None and selection.wants(before)
    if after is not None and selection.wants(after):
        kind: Literal["ADDED", "MODIFIED"] = "MODIFIED" if was else "ADDED"
        return WatchEvent(kind, after, size)
    return WatchEvent("DELETED", before, size) if was and before is not None else None


def with_version(obj: Object, revision: int) -> Object:
    """Set the store's revision as the resourceVersion of an object, in place."""
    inner = meta.metadata(obj)
    inner["resourceVersion"] = str(revision)
    obj["metadata"] = inner
    return obj


def version_of(text: str) -> int:
    """A resourceVersion of a request; 0 for "". Raises BadRequest for what this server never gave out."""
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and int(text) < 2**63):
        raise BadRequest(f"invalid resource version: {text[:64]!r} is not a version of this server")
    return int(text)


def start_of_list(version: str, match: str, token: str, *, limited: bool) -> str:
    """The continue token with which a list begins: its own, or that of the revision that it asks for; "": it shows what is newest.

    `version`, `match`: its resourceVersion and resourceVersionMatch; `limited`: it has a limit. Raises BadRequest for what does not go together.
    """
    number = version_of(version)
    if match not in ("", "Exact", "NotOlderThan"):
        raise BadRequest(
            f'resourceVersionMatch: Unsupported value: {match[:64]!r}: supported values: "Exact", "NotOlderThan"'
        )
    if match and (not version or token):
        raise BadRequest("resourceVersionMatch: Forbidden: needs a resourceVersion, and goes with no continue token")
    if match == "Exact" and not number:
        raise BadRequest('resourceVersionMatch: Forbidden: "Exact" needs a resourceVersion other than 0')
    if token and number:
        raise BadRequest("specifying resource version is not allowed when using continue")
    exact = number and (match == "Exact" or (not match and limited))
    return encode_continue(number, "") if exact else token


def encode_continue(revision: int, start: str) -> str:
    """`start` is the rest of the key after the selection's prefix: the token names no tenant and cannot leave it."""
    return base64.urlsafe_b64encode(json.dumps({"rv": revision, "start": start}).encode()).decode()


def decode_continue(token: str) -> tuple[int, str]:
    """(revision, rest of the key). Raises BadRequest."""
    try:
        if len(token) > 4096:
            raise ValueError("too long")
        found = json.loads(base64.urlsafe_b64decode(token.encode()))
        revision, start = found["rv"], found["start"]
        if (
            not isinstance(revision, int)
            or isinstance(revision, bool)
            or not 0 < revision < 2**63
            or not isinstance(start, str)
        ):
            raise ValueError("wrong types")
        start.encode()
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise BadRequest("continue key is not valid") from exc
    return revision, start
