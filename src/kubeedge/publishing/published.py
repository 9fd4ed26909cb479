"""The web services that were published on this node: what `kubeedge publish` asks of the agent.

Lives elsewhere: the values in the store (service_record.py), what they mean for requests (servicetable, kubebus.http.access).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import Any

from kubeedge.api import keys
from kubeedge.api.names import node_name
from kubeedge.errors import NotFound
from kubeedge.publishing import service_record
from kubeedge.store.model import Store


class PublishedServices:
    """The web services that `kubeedge publish` registers on this node. `prefix` is the node's part of a URL: "/tenant/node"."""

    def __init__(self, store: Store, prefix: str) -> None:
        self._store = store
        self._prefix = prefix

    async def publish(self, name: str, target: str | None, access: str | None) -> dict[str, Any]:
        """Register a service, or change it. One that asks for a token and has none gets its first one, which is in the answer and
        nowhere else. Raises Invalid."""
        key, before = await self._find(name)
        after = service_record.registered(before, target, access)
        answer: dict[str, Any] = {"path": f"{self._prefix}/{name}/"}
        if after.get("access") == "token" and not after["tokens"]:
            answer["token"] = _new_token()
            after = service_record.with_token(after, name, answer["token"])
        await self._put(key, after)
        return {**answer, "target": after["target"], "access": after.get("access", "public")}

    async def new_token(self, name: str) -> dict[str, Any]:
        """Give the service one more token, which is in the answer and nowhere else. Raises NotFound, or Invalid when it has too many."""
        key, before = await self._find(name)
        token = _new_token()
        await self._put(key, service_record.with_token(_there(before, name), name, token))
        return {"token": token}

    async def revoke_tokens(self, name: str) -> dict[str, Any]:
        """Revoke all tokens of the service. Raises NotFound, Invalid."""
        key, before = await self._find(name)
        await self._put(key, service_record.without_tokens(_there(before, name), name))
        return {}

    async def unpublish(self, name: str) -> dict[str, Any]:
        """Delete the record. Raises NotFound."""
        if not await self._store.delete(keys.reported("webservices", "", str(node_name(name)))):
            raise NotFound(f"no web service {name} was published on this node")
        return {}

    async def list(self) -> dict[str, Any]:
        """What `kubeedge publish --list` shows. A name that was published here hides the Service of that name."""
        found: dict[str, dict[str, str]] = {}
        for area, by in ((keys.DESIRED, "Service"), (keys.REPORTED, "kubeedge publish")):
            start = f"{area}webservices/"
            for item in (await self._store.range(start, keys.prefix_end(start))).kvs:
                name, value = item.key.rpartition("/")[2], service_record.parsed(item.value)
                found[name] = {
                    "name": name,
                    "by": by,
                    "target": service_record.target_shown(value),
                    "access": service_record.access_shown(value),
                    "path": f"{self._prefix}/{name}/",
                }
        return {"services": [found[name] for name in sorted(found)]}

    async def _find(self, name: str) -> tuple[str, Mapping[str, Any] | None]:
        key = keys.reported("webservices", "", str(node_name(name)))
        item = await self._store.get(key)
        return key, service_record.parsed(item.value) if item is not None else None

    async def _put(self, key: str, value: Mapping[str, Any]) -> None:
        await self._store.put(key, json.dumps(value).encode())


def _there(value: Mapping[str, Any] | None, name: str) -> Mapping[str, Any]:
    if value is None:
        raise NotFound(f"no web service {name} was published on this node; the tokens of a Service are in its Secret")
    return value


def _new_token() -> str:
    return secrets.token_urlsafe(32)
