"""A KubeClient over an API server of the user's."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

from kubeedge.api import meta, service_accounts, status
from kubeedge.api.client import ObjectList, Resource, WatchEvent
from kubeedge.api.names import NodeName, Object
from kubeedge.api.resources import SERVICEACCOUNTS
from kubeedge.kit.headers import Headers
from kubeedge_cloud.clusters import core
from kubeedge_cloud.clusters.history import precedes
from kubeedge_cloud.clusters.transport import ClusterTransport

log = logging.getLogger("kubeedge.clusters")

_CHUNK = 500  # objects of one answer to a list, as of Kubernetes' own clients
_WATCH = 300.0, 600.0  # seconds after which a server is asked to end a watch, at random: all of them at once would hurt
_SLACK = 30.0  # seconds that it may be late
_EARLY = 5.0  # seconds that it may end before, by a clock that is not ours
_RULES = Resource("authorization.k8s.io", "v1", "selfsubjectrulesreviews", "SelfSubjectRulesReview", namespaced=False)
_KEYS, _JWK_SET = "/openid/v1/jwks", ("accept", "application/jwk-set+json")  # and nothing else: 406
_JSON = ("accept", "application/json")
_MERGE_PATCH = "application/merge-patch+json"


class RemoteClient:
    """See KubeClient. `identity` are headers that say for whom a request is made (see `as_node`)."""

    def __init__(
        self, transport: ClusterTransport, *, identity: Headers = (), chance: Callable[[], float] = random.random
    ) -> None:
        self._transport = transport
        self._identity = tuple(identity)
        self._chance = chance
        self._streams_lists = True  # until the server says that it does not

    @property
    def transport(self) -> ClusterTransport:
        """The transport to the cluster."""
        return self._transport

    async def moved(self) -> None:
        """Returns once the source leads to another server."""
        await self._transport.moved()

    def as_node(self, node: NodeName) -> RemoteClient:
        """What is asked by it is asked by that node's own identity: the Node authorizer and NodeRestriction decide."""
        identity = (("impersonate-user", f"system:node:{node}"), ("impersonate-group", "system:nodes"))
        return RemoteClient(self._transport, identity=identity, chance=self._chance)

    # Reads

    async def resources(self) -> Sequence[Resource]:
        found: list[Resource] = []
        groups = (await self._get("/apis")).get("groups") or ()
        for version in ["v1", *(group["preferredVersion"]["groupVersion"] for group in groups)]:
            try:
                served = await self._get(f"/apis/{version}" if "/" in version else f"/api/{version}")
            except (status.ServerUnavailable, status.NoSuchPath):
                continue  # an extension's server is away: its resources are not served now
            group, _, number = version.rpartition("/")
            found += [
                Resource(group, number, r["name"], r["kind"], bool(r["namespaced"]))
                for r in served.get("resources") or ()
                if "/" not in r["name"]
            ]
        return found

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        return core.completed(resource, await self._get(core.one(resource, namespace, name)))

    async def list(
        self, resource: Resource, namespace: str = "", *, label_selector: str = "", field_selector: str = ""
    ) -> ObjectList:
        history = self._transport.history
        breaks = history.breaks
        found = await self._list(
            resource, namespace, {"labelSelector": label_selector, "fieldSelector": field_selector}
        )
        history.reached(resource, found.resource_version, breaks)
        return found

    async def _list(self, resource: Resource, namespace: str, selectors: dict[str, str]) -> ObjectList:
        path = core.collection(resource, namespace)
        if self._streams_lists and not namespace:
            try:
                return await self._streamed_list(resource, path, selectors)
            except (status.InvalidObject, status.BadRequest):
                self._streams_lists = False  # before Kubernetes 1.34, or switched off
        try:
            return await self._chunked_list(resource, path, selectors)
        except status.Expired:  # in the middle of it: it takes longer than the server keeps history
            found = await self._get(core.query(path, **selectors))
            return _object_list(resource, found.get("items") or (), found)

    async def reduced_list(
        self, resource: Resource, namespace: str, keep: Callable[[Object], Object]
    ) -> Sequence[Object]:
        return [keep(obj) for obj in (await self.list(resource, namespace)).items]

    async def _chunked_list(self, resource: Resource, path: str, selectors: dict[str, str]) -> ObjectList:
        items: list[Object] = []
        following: dict[str, Any] = {}
        while True:
            found = await self._get(core.query(path, limit=_CHUNK, **selectors, **following))
            items += found.get("items") or ()
            token = meta.metadata(found).get("continue")
            if not token:
                return _object_list(resource, items, found)
            following = {"continue": token}

    async def _streamed_list(self, resource: Resource, path: str, selectors: dict[str, str]) -> ObjectList:
        """List objects one at a time, so that neither side keeps the whole list."""
        target = core.query(
            path, watch=True, sendInitialEvents=True, resourceVersionMatch="NotOlderThan", allowWatchBookmarks=True,
            timeoutSeconds=int(_WATCH[0]), **selectors,
        )  # fmt: skip
        items: dict[tuple[str, str], Object] = {}
        events = self._events(resource, target, _SLACK)
        try:
            async for told in events:
                key = meta.namespace_of(told.object), meta.name_of(told.object)
                if core.ends_initial_events(told):
                    return ObjectList(list(items.values()), _version(told.object))
                if told.type == "DELETED":
                    items.pop(key, None)
                elif told.type != "BOOKMARK":
                    items[key] = told.object
        finally:
            await events.aclose()
        raise status.ServerUnavailable(f"a streamed list of {resource.plural} ended before its end")

    async def watch(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
        bookmarks: bool = False,
    ) -> AsyncGenerator[WatchEvent, None]:
        path, selectors = (
            core.collection(resource, namespace),
            {"labelSelector": label_selector, "fieldSelector": field_selector},
        )
        await self._check_history(resource, path, resource_version, selectors)
        first, last = _WATCH
        seconds = first + (last - first) * self._chance()
        target = core.query(
            path, watch=True, resourceVersion=resource_version, allowWatchBookmarks=bookmarks,
            timeoutSeconds=int(seconds), **selectors,
        )  # fmt: skip
        until = asyncio.get_running_loop().time() + seconds - _EARLY
        events = self._events(resource, target, seconds + _SLACK)
        try:
            async for told in events:
                if told.type != "BOOKMARK" or bookmarks:
                    yield told
            if asyncio.get_running_loop().time() < until:  # a server that stops ends its watches so
                self._transport.history.broken()
        finally:
            await events.aclose()

    async def _check_history(self, resource: Resource, path: str, version: str, selectors: dict[str, str]) -> None:
        """Raises Expired when the server has not got so far, or not any more."""
        history = self._transport.history
        if history.has(resource, version):
            return
        async with history.looks[resource]:
            if history.has(resource, version):
                return
            breaks = history.breaks
            now = _version(await self._get(core.query(path, limit=1, **selectors)))
            history.reached(resource, now, breaks)
            if precedes(now, version):
                log.warning(
                    "the API server has version %s of %s, and %s was there before: it was restored from a backup, and is read anew",
                    now, resource.plural, version,
                )  # fmt: skip
                raise status.Expired(f"{resource.plural}: version {version} is after {now}, the newest that there is")

    async def _events(self, resource: Resource, target: str, idle: float) -> AsyncGenerator[WatchEvent, None]:
        lines = core.Lines()
        async with self._transport.stream(target, [*self._identity, _JSON], idle=idle) as chunks:
            async for chunk in chunks:
                for line in lines.feed(chunk):
                    yield core.event(resource, line)

    # Writes

    async def create(self, resource: Resource, namespace: str, obj: Object) -> Object:
        path = core.collection(resource, namespace or meta.namespace_of(obj))
        return await self._send("POST", path, _typed(resource, obj))

    async def update(self, resource: Resource, namespace: str, obj: Object, *, subresource: str = "") -> Object:
        path = core.one(resource, namespace or meta.namespace_of(obj), meta.name_of(obj), subresource)
        return await self._send("PUT", path, _typed(resource, obj))

    async def merge_patch(
        self, resource: Resource, namespace: str, name: str, patch: Object, *, subresource: str = ""
    ) -> Object:
        return await self._send("PATCH", core.one(resource, namespace, name, subresource), patch, _MERGE_PATCH)

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, grace_period: int | None = None, uid: str = ""
    ) -> None:
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if grace_period is not None:
            options["gracePeriodSeconds"] = grace_period
        if uid:
            options["preconditions"] = {"uid": uid}
        await self._send("DELETE", core.one(resource, namespace, name), options)

    async def create_token(self, namespace: str, account: str, request: Object) -> Object:
        return await self._send("POST", core.one(SERVICEACCOUNTS, namespace, account, "token"), request)

    async def account_rules(self, namespace: str, account: str) -> Sequence[Mapping[str, Any]]:
        """Asked in the name of the account; where we may not do that, nothing is known of it."""
        who = RemoteClient(self._transport, identity=_account(namespace, account), chance=self._chance)
        review = {"apiVersion": _RULES.api_version, "kind": _RULES.kind, "spec": {"namespace": namespace}}
        try:
            found = await who._send("POST", core.collection(_RULES, ""), review)
        except status.Forbidden:
            return ()
        rules = (found.get("status") or {}).get("resourceRules")
        return [rule for rule in rules if isinstance(rule, dict)] if isinstance(rules, list) else ()

    async def issuer_keys(self) -> Sequence[Mapping[str, Any]]:
        """/openid/v1/jwks. Raises Forbidden for who may not read it."""
        answer = await self._transport.request("GET", _KEYS, [*self._identity, _JWK_SET])
        found = _object(answer).get("keys")
        return [key for key in found if isinstance(key, dict)] if isinstance(found, list) else []

    async def _get(self, target: str) -> Object:
        return _object(await self._transport.request("GET", target, [*self._identity, _JSON]))

    async def _send(self, method: str, target: str, body: Object, media_type: str = "application/json") -> Object:
        data = json.dumps(body, separators=(",", ":")).encode()
        headers = [*self._identity, _JSON, ("content-type", media_type)]
        return _object(await self._transport.request(method, target, headers, data))


def _account(namespace: str, name: str) -> Headers:
    """Without groups: the API server knows those of a service account, and to name them would take the right to impersonate them."""
    return (("impersonate-user", service_accounts.subject(namespace, name)),)


def _object(data: bytes) -> Object:
    try:
        obj = core.parsed(data, core.MAX_LIST_VALUES)
    except ValueError as exc:
        raise status.ServerUnavailable("the API server answered with what is not JSON") from exc
    if not isinstance(obj, dict):
        raise status.ServerUnavailable("the API server answered with what is no object")
    return obj


def _object_list(resource: Resource, items: Sequence[Object], whole: Object) -> ObjectList:
    return ObjectList([core.completed(resource, obj) for obj in items], _version(whole))


def _version(obj: Object) -> str:
    return str(meta.metadata(obj).get("resourceVersion") or "")


def _typed(resource: Resource, obj: Object) -> Object:
    return {"apiVersion": resource.api_version, "kind": resource.kind, **obj}
