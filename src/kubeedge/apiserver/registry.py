"""The Kubernetes objects of one tenant, over a store. The KubeClient of everything in this process.

Lives here:      writing with optimistic concurrency, binding, scaling, deleting.
Lives elsewhere: reading, and what a resourceVersion is (reading.py); what a write makes of an object (core.py); which namespaces there are
                 (namespaces.py); addresses and leases that belong to objects (attachments.py); HTTP (server.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from kubeedge.api import access, json_bounds, keys, meta, patch
from kubeedge.api.client import Resource
from kubeedge.api.meta import Randbytes
from kubeedge.api.names import Object, TenantId
from kubeedge.api.resources import EVENTS, LEASES, NAMESPACES, PODS, SERVICEACCOUNTS, Resources, Row
from kubeedge.api.status import AlreadyExists, BadRequest, NoSuchPath, ObjectModified, ObjectNotFound, TooLarge
from kubeedge.apiserver import admission, core, selection
from kubeedge.apiserver.accounts import AccountKey, Joins, ServiceAccounts
from kubeedge.apiserver.attachments import Attachments
from kubeedge.apiserver.cluster_ips import SERVICE_RANGE
from kubeedge.apiserver.core import DeleteOptions, WriteOptions
from kubeedge.apiserver.namespaces import TenantNamespaces
from kubeedge.apiserver.offload import Offload
from kubeedge.apiserver.quota import Growth, Quota, Unlimited
from kubeedge.apiserver.reading import ObjectReader, decode
from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import replace
from kubeedge.kit.ip import IpNetwork
from kubeedge.store.model import MAX_VALUE, Delete, KeyValue, Put, Store, absent, unchanged

_ATTEMPTS = 16  # of a write that loses races; each lost race means that another write succeeded
_PAGE = 500  # objects of a resource that goes
_TOLD = 128 * 1024  # bytes of deleted objects that an answer may have: a tenant may ask for 64 at a time
#: the garbage collector does not follow them: nothing would end a finalizer of its
_UNCOLLECTED = frozenset((EVENTS, LEASES))


class Registry(ObjectReader):
    """`wall` gives seconds since 1970; `randbytes` feeds uids and generated names.

    `foreground` says that a garbage collector takes the finalizer foregroundDeletion away once the dependents are gone;
    without one, a deletion in the foreground is one in the background, for the object would never go.
    """

    def __init__(
        self,
        store: Store,
        tenant: TenantId,
        *,
        wall: Callable[[], float] = time.time,
        randbytes: Randbytes = os.urandom,
        foreground: bool = False,
        bootstrap: bool = True,
        offload: Offload | None = None,
        quota: Quota | None = None,
        served: Resources | None = None,
        owners: bool = True,
        account_key: AccountKey | None = None,
        joins: Joins | None = None,
        services: Sequence[IpNetwork] = (SERVICE_RANGE,),
    ) -> None:
        super().__init__(store, tenant, served=served, offload=offload, wall=wall)
        self._wall, self._randbytes, self._foreground = wall, randbytes, foreground
        self._quota = quota or Unlimited()
        self._attachments = Attachments(store, tenant, wall=wall, randbytes=randbytes, services=services)
        self._bootstrapped = not bootstrap  # the edge's own API makes no namespaces
        self.owners = owners  # of fields: a server-side apply keeps them (kubeedge.api.managed_fields)
        self._namespaces = TenantNamespaces(store, tenant, self.served)
        #: None: pods get no tokens, and no account has to exist
        self.accounts = (
            ServiceAccounts(tenant, account_key, self, wall=wall, joins=joins) if account_key is not None else None
        )

    def now(self) -> float:
        """Seconds since 1970, as time stamps of objects have them."""
        return self._wall()

    async def bootstrap(self) -> None:
        """Make the namespaces that every cluster has. Every other method calls it first."""
        if not self._bootstrapped:
            await self._namespaces.bootstrap(now=self._wall(), randbytes=self._randbytes)
            self._bootstrapped = True

    async def unregister(self, resource: Resource) -> None:
        """Take a custom resource out of the API, with its objects; watches on it see them go. Finalizers are not waited for."""
        gone = self.served.remove(resource)
        start = selection.prefix(self.tenant, resource)
        while gone.conversion is None:  # another version goes alone
            page = await self._store.range(start, keys.prefix_end(start), limit=_PAGE, keys_only=True)
            for kv in page.kvs:  # one by one: a resourceVersion belongs to one object
                await self._store.delete(kv.key)
            if not page.more:
                return

    # Writing

    async def create(
        self, resource: Resource, namespace: str, obj: Object, *, options: WriteOptions | None = None
    ) -> Object:
        """Raises AlreadyExists, InvalidObject, Forbidden (the namespace ends; the quota), ObjectNotFound (of the namespace)."""
        await self.bootstrap()
        options = options or WriteOptions()
        row = self.served.row_of(resource)
        if resource.namespaced and not namespace:
            namespace = meta.namespace_of(obj) if isinstance(obj, dict) else ""
        now = self._wall()
        new = await self.apart(
            options.size, lambda: core.create(row, namespace, obj, options, now=now, randbytes=self._randbytes)
        )
        if resource == PODS and self.accounts is not None and not admission.has_none(new):
            new = await self._admit(new, namespace, dry_run=options.dry_run)
        name = meta.name_of(new)
        key = self._key(resource, namespace, name)
        for _ in range(_ATTEMPTS):
            compares = [absent(key)]
            if resource.namespaced:
                compares.append(await self._namespaces.open(row, namespace, name))
            writing = await self._attachments.of_write(row, None, new)
            value = await self.apart(options.size, partial(_encode, writing.obj))
            if options.dry_run:
                if await self._store.get(key) is not None:
                    raise AlreadyExists.of(resource, name)
                return writing.obj
            growth = Growth(resource, name, 1, len(key) + len(value), len(value))
            with self._quota.reserve(growth) as wrote:
                done = await self._store.txn(
                    [*compares, *writing.compares], [Put(key, value, writing.lease), *writing.ops]
                )
                if done.succeeded:
                    wrote(key, len(key) + len(value), done.revision)
            if done.succeeded:
                return selection.with_version(writing.obj, done.revision)
            if await self._store.get(key) is not None:
                raise AlreadyExists.of(resource, name)
        raise ObjectModified.of(resource, name)

    async def create_token(self, namespace: str, account: str, request: Object) -> Object:
        """serviceaccounts/token. Raises NoSuchPath when this API signs none."""
        if self.accounts is None:
            raise NoSuchPath
        return await self.accounts.request(namespace, account, request)

    async def account_rules(self, namespace: str, account: str) -> Sequence[Mapping[str, Any]]:
        """The rules that apply to a service account (kubeedge.api.access). Raises ObjectNotFound."""
        return access.granted(await self.get(SERVICEACCOUNTS, namespace, account), self.served)

    async def issuer_keys(self) -> Sequence[Mapping[str, Any]]:
        """The one of this API. Raises NoSuchPath when it signs none."""
        if self.accounts is None:
            raise NoSuchPath
        return list(self.accounts.jwks()["keys"])

    async def _admit(self, pod: Object, namespace: str, *, dry_run: bool) -> Object:
        pod = admission.named(pod)
        name = str(pod["spec"]["serviceAccountName"])
        try:
            account = await self.get(SERVICEACCOUNTS, namespace, name)
        except ObjectNotFound:
            if name != "default":
                raise admission.missing(pod, name) from None
            # every namespace has one, in a moment: a manifest may bring a namespace and a pod in it
            account = {"metadata": {"name": name, "namespace": namespace}}
            if not dry_run:
                with contextlib.suppress(AlreadyExists):
                    await self.create(SERVICEACCOUNTS, namespace, account)
        return admission.admitted(pod, account, self._randbytes)

    async def update(
        self,
        resource: Resource,
        namespace: str,
        obj: Object,
        *,
        subresource: str = "",
        options: WriteOptions | None = None,
    ) -> Object:
        """Subresources: status, finalize (namespaces), scale (takes and gives a Scale)."""
        if not isinstance(obj, dict) or not isinstance(obj.get("metadata"), dict):
            raise BadRequest("the object has no metadata")
        if resource.namespaced and not namespace:
            namespace = meta.namespace_of(obj)
        return await self._modify(
            resource, namespace, meta.name_of(obj), lambda old: obj, subresource=subresource, options=options
        )

    async def merge_patch(
        self, resource: Resource, namespace: str, name: str, patch_: Object, *, subresource: str = ""
    ) -> Object:
        """RFC 7386. Raises ObjectNotFound, ObjectModified, InvalidObject."""
        return await self.modify(
            resource, namespace, name, lambda old: patch.merge(old, patch_), subresource=subresource
        )

    async def modify(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        change: Callable[[Object], Any],
        *,
        subresource: str = "",
        options: WriteOptions | None = None,
    ) -> Object:
        """Read, change, write, again when another client was faster. `change` may be called several times.

        It gets the object with its resourceVersion (the Scale, for subresource scale); if its result carries another
        one, that is a conflict.
        """
        return await self._modify(resource, namespace, name, change, subresource=subresource, options=options)

    async def _modify(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        change: Callable[[Object], Any],
        *,
        subresource: str,
        options: WriteOptions | None,
    ) -> Object:
        await self.bootstrap()
        options = options or WriteOptions()
        row = self.served.row_of(resource)
        for attempt in range(_ATTEMPTS):
            kv = await self._read(resource, namespace, name)
            options.warnings.clear()
            work = partial(self._changed, row, kv, change, subresource, options)
            old, new = await self.apart(len(kv.value) + options.size, work)
            result = await self._replace(
                row, kv, old, new, dry_run=options.dry_run, size=options.size, status=subresource == "status"
            )
            if result is not None:
                return core.scale_of(result) if subresource == "scale" else result
            await asyncio.sleep(0.001 * attempt)
        raise ObjectModified.of(resource, name)

    def _changed(
        self, row: Row, kv: KeyValue, change: Callable[[Object], Any], subresource: str, options: WriteOptions
    ) -> tuple[Object, Object]:
        """(as it is, as it is to be)"""
        old = decode(kv)
        return old, self._made(row, old, change, subresource, options)

    def _made(
        self, row: Row, old: Object, change: Callable[[Object], Any], subresource: str, options: WriteOptions
    ) -> Object:
        now = self._wall()
        if subresource == "scale":
            # Whole objects are compared later, and `change` may work in place: it gets copies.
            scaled = core.rescaled(meta.decode(meta.encode(old)), change(core.scale_of(old)))
            return core.update(row, old, scaled, "", options, now=now)
        if subresource == "binding":
            return core.bind(row, old, _target_of(change(meta.decode(meta.encode(old)))), now=now)
        new = change(meta.decode(meta.encode(old)))
        return core.update(row, old, new, subresource, options, now=now)

    async def _replace(
        self, row: Row, kv: KeyValue, old: Object, new: Object, *, dry_run: bool, size: int = 0, status: bool = False
    ) -> Object | None:
        """The stored object with its version; None when another client was faster. No write without a change."""
        if new == core.without_version(old):
            return old
        finished = core.is_finished(row, new)
        if finished and row.resource == NAMESPACES and await self._namespaces.has_content(meta.name_of(new)):
            finished = False
        if dry_run:
            return selection.with_version(new, kv.mod_revision)
        if finished:
            return selection.with_version(new, kv.mod_revision) if await self._remove(row, kv, old) else None
        writing = await self._attachments.of_write(row, old, new)
        value = await self.apart(len(kv.value) + size, partial(_encode, writing.obj))
        growth = Growth(row.resource, meta.name_of(new), 0, len(value) - len(kv.value), len(value), status)
        with self._quota.reserve(growth) as wrote:
            done = await self._store.txn(
                [unchanged(kv), *writing.compares], [Put(kv.key, value, writing.lease), *writing.ops]
            )
            if done.succeeded:
                wrote(kv.key, len(kv.key) + len(value), done.revision)
        return selection.with_version(writing.obj, done.revision) if done.succeeded else None

    async def bind(self, namespace: str, name: str, node: str) -> Object:
        """Binds the pod to `node`, as the scheduler has decided. Raises ObjectModified when it is bound already."""
        return await self._modify(
            PODS, namespace, name, lambda old: {"target": {"name": node}}, subresource="binding", options=None
        )

    # Deleting

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, grace_period: int | None = None, uid: str = ""
    ) -> None:
        """Delete an object, or begin to. Raises ObjectNotFound, or ObjectModified when it has another uid."""
        await self.delete_object(resource, namespace, name, DeleteOptions(grace_period=grace_period, uid=uid))

    async def delete_object(
        self, resource: Resource, namespace: str, name: str, options: DeleteOptions
    ) -> tuple[Object, bool]:
        """(the object as it is now or was last, whether it is gone)."""
        await self.bootstrap()
        row = self.served.row_of(resource)
        if not self._foreground or resource in _UNCOLLECTED:  # no controller would end, or release, its dependents
            if options.propagation == "Orphan" and not options.dry_run:
                await self._orphan(await self.get(resource, namespace, name))
            if options.propagation in ("Foreground", "Orphan"):
                options = replace(options, propagation="Background")
        for attempt in range(_ATTEMPTS):
            kv = await self._read(resource, namespace, name)
            old = decode(kv)
            deleting = core.delete(row, old, options, now=self._wall())
            if options.dry_run:
                return (old, True) if deleting is None else (selection.with_version(deleting, kv.mod_revision), False)
            if deleting is None:
                if await self._remove(row, kv, old):
                    return old, True
            else:
                result = await self._replace(row, kv, old, deleting, dry_run=False, status=True)
                if result is not None:
                    return await self._purged(row, result)
            await asyncio.sleep(0.001 * attempt)
        raise ObjectModified.of(resource, name)

    async def delete_collection(
        self,
        resource: Resource,
        namespace: str,
        options: DeleteOptions,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> Sequence[Object] | None:
        """The objects that were deleted, or are being deleted now; None: they are too many bytes to be told."""
        gone, size = list[Object](), 0
        pages = self.pages(resource, namespace, label_selector=label_selector, field_selector=field_selector)
        async with contextlib.aclosing(pages):
            async for page in pages:
                size += page.size if page.items else 0
                for obj in page.items:
                    with contextlib.suppress(ObjectNotFound):  # another client deleted it meanwhile
                        told, _ = await self.delete_object(resource, meta.namespace_of(obj), meta.name_of(obj), options)
                        gone.append(told)
                if size > _TOLD:
                    gone.clear()
        return gone if size <= _TOLD else None

    async def _purged(self, row: Row, obj: Object) -> tuple[Object, bool]:
        """A namespace that is Terminating and empty goes at once; its phase keeps new content out meanwhile."""
        if row.resource != NAMESPACES or meta.metadata(obj).get("finalizers"):
            return obj, False
        if await self._namespaces.has_content(meta.name_of(obj)):
            return obj, False
        kv = await self._store.get(self._key(NAMESPACES, "", meta.name_of(obj)))
        if kv is None or await self._remove(row, kv, obj):
            return obj, True
        return obj, False

    async def _remove(self, row: Row, kv: KeyValue, old: Object) -> bool:
        ops = [Delete(kv.key), *self._attachments.of_removal(row, old)]
        return (await self._store.txn([unchanged(kv)], ops)).succeeded

    async def _orphan(self, owner: Object) -> None:
        """Take the owner's uid out of its dependents, so that they outlive it."""
        uid, namespace = str(meta.metadata(owner).get("uid", "")), meta.namespace_of(owner)
        for row in (row for row in self.served.stored if row.resource.namespaced or not namespace):
            async with contextlib.aclosing(self.pages(row.resource, namespace)) as pages:
                async for page in pages:
                    for obj in page.items:
                        if core.without_owner(obj, uid) is not None:
                            await self._release(row, obj, uid)

    async def _release(self, row: Row, obj: Object, uid: str) -> None:
        with contextlib.suppress(ObjectNotFound):
            await self.modify(
                row.resource, meta.namespace_of(obj), meta.name_of(obj), lambda old: core.without_owner(old, uid) or old
            )


def _encode(obj: Object) -> bytes:
    value = meta.encode(obj)
    if len(value) > MAX_VALUE:
        raise TooLarge(f"the object has {len(value)} bytes, more than the limit of {MAX_VALUE}")
    try:
        json_bounds.check(value, what="the object")  # defaults and patches add to what came
    except Invalid as exc:
        raise TooLarge(str(exc)) from exc
    return value


def _target_of(binding: Any) -> str:
    target = binding.get("target") if isinstance(binding, dict) else None
    node = target.get("name") if isinstance(target, dict) else None
    if not isinstance(node, str) or not node:
        raise BadRequest("a Binding needs target.name, the node")
    return node
