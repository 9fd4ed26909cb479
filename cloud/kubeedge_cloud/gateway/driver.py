"""The Gateways of one tenant: its objects in, its table of routes and the status of each object out. Level-triggered.

Every process follows the objects and has the table. The one that leads the tenant's Gateways writes: rows of host names, status, Events.
Nothing but Gateways, Ingresses and their classes is watched until there is one.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

from kubeedge.api import gateway, meta
from kubeedge.api.client import KubeClient, Resource
from kubeedge.api.names import NamespacedName, Object, TenantId
from kubeedge.api.resources import ENDPOINTSLICES, NAMESPACES, NODES, SECRETS, SERVICES
from kubeedge.apiserver.offload import SMALL, Offload
from kubeedge.errors import Invalid, NotFound
from kubeedge.gateway.model import CompiledRoutes, ListenPoint
from kubeedge.store.model import Compare, Store
from kubeedge_cloud.controllers.informer.client import CachedClient
from kubeedge_cloud.controllers.informer.driver import Informer
from kubeedge_cloud.controllers.objects import merge_diff, only_metadata, uid_of
from kubeedge_cloud.controllers.queue import WorkQueue
from kubeedge_cloud.controllers.recorder import Recorder
from kubeedge_cloud.gateway import conditions, httproutes, ingresses
from kubeedge_cloud.gateway.backends import ReadyPods
from kubeedge_cloud.gateway.certificates import context_of
from kubeedge_cloud.gateway.claims import HostClaims
from kubeedge_cloud.gateway.core import WITH_STATUS, Compilation, compile_routes
from kubeedge_cloud.gateway.nodes import NodeCompilation, compile_in_steps, concerned
from kubeedge_cloud.gateway.ports import GatewayPorts
from kubeedge_cloud.gateway.references import GatewayObjects, oldest
from kubeedge_cloud.gateway.sites import NodeSites
from kubeedge_cloud.tenants.manager import TenantManager

log = logging.getLogger("kubeedge.gateway")

_TOGETHER = 0.05  # seconds: what is applied at once is looked at once
_OBJECT = 64  # bytes of JSON that cost as much as to look at one object, about
_MAX_SECRETS = 256  # certificates of one tenant that are kept


class TenantGateways:
    """`publish(routes)` is told of each new table. `ports` and `addresses`: of the web listener and of the cloud; `failed`: points that could not
    be opened. `resources`: those that the tenant's own cluster serves; None: the API is ours."""

    def __init__(
        self,
        tenant: TenantId,
        client: KubeClient,
        claims: HostClaims,
        tenants: TenantManager,
        *,
        ports: GatewayPorts,
        addresses: Sequence[str],
        publish: Callable[[CompiledRoutes], None],
        fence: Callable[[], Sequence[Compare]],
        offload: Offload,
        store: Store,
        failed: Callable[[], Mapping[ListenPoint, str]] = dict,
        resources: Collection[Resource] | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._tenant, self._claims, self._tenants = tenant, claims, tenants
        self._ports, self._addresses, self._publish = ports, addresses, publish
        self._fence, self._wall, self._offload = fence, wall, offload
        self._failed, self._unclassed = failed, resources is None
        self._client = cached = CachedClient(client)
        self._classes = cached.informer(gateway.GATEWAYCLASSES)
        self._gateways = cached.informer(gateway.GATEWAYS)
        self._ingresses = cached.informer(gateway.INGRESSES)
        self._ingressclasses = cached.informer(gateway.INGRESSCLASSES)
        self._first = list(cached.informers())
        self._routes = cached.informer(gateway.HTTPROUTES)
        #: not every cluster has these
        self._optional = [
            cached.informer(r) if resources is None or r in resources else None
            for r in (gateway.TLSROUTES, gateway.TCPROUTES)
        ]
        self._grants = cached.informer(gateway.REFERENCEGRANTS)
        self._services = cached.informer(SERVICES)
        self._namespaces = cached.informer(NAMESPACES, keep=_labelled)
        self._secrets = cached.informer(SECRETS, keep=only_metadata)
        self._slices = cached.informer(ENDPOINTSLICES)
        self._store = store
        self._sites: NodeSites | None = None  # while this process leads
        self._on_nodes = asyncio.Event()  # there is a class for nodes
        self._wanted = asyncio.Event()  # there is a Gateway, an Ingress or a GatewayClass of ours
        self._leads = False
        self._recorder = Recorder(cached, wall=wall)
        self._told: dict[str, Collection[str]] = {}  # faults of Ingresses, by uid
        #: Secret -> its version, its context, or what is wrong with it
        self._certificates: dict[NamespacedName, tuple[str, ssl.SSLContext | None, str]] = {}
        self._missing: set[NamespacedName] = set()
        self._hostnames: Collection[str] = ()  # that it wants
        self._taken: Mapping[str, str] = {}  # those that it had not got at the last look, and why
        self.pods = ReadyPods()
        self.queue: WorkQueue[str] = WorkQueue(f"gateways of {tenant}", self._look, workers=1)

    async def run(self, ready: asyncio.Event) -> None:
        """Keeps the table until it is cancelled. Ready once it is made of everything that is there."""
        async with asyncio.TaskGroup() as group:
            for informer in self._first:
                group.create_task(informer.run(), name=f"{informer.resource.plural} of {self._tenant}")
            for informer in self._first:
                await informer.synced.wait()
                informer.on_change(self._changed)
            if not self._has_any():
                ready.set()
            await self._wanted.wait()
            later = [i for i in self._client.informers() if i not in self._first]
            for informer in later:
                group.create_task(informer.run(), name=f"{informer.resource.plural} of {self._tenant}")
            for informer in later:
                await informer.synced.wait()
                informer.on_change(self.pods.apply if informer is self._slices else self._changed)
            group.create_task(self.queue.run(), name=self.queue.name)
            ready.set()

    async def lead(self, serving: asyncio.Event) -> None:
        """Write what the objects should say, while this process leads."""
        self._leads = True
        nodes = Informer(self._client, NODES, keep=_labelled)
        self._sites = sites = NodeSites(self._store, self._tenant, nodes, self.look, self._too_large)
        try:
            if await sites.has_rows():  # of classes that may be gone
                self._wanted.set()
                self._on_nodes.set()
            self.look()
            serving.set()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._recorder.run(), name=f"Events of Gateways of {self._tenant}")
                await self._on_nodes.wait()
                await sites.run()
        finally:
            self._leads, self._sites = False, None

    def _too_large(self, node: Object, why: str) -> None:
        log.warning("tenant=%s node=%s: %s", self._tenant, meta.name_of(node), why)
        self._recorder.event(NODES, node, "GatewaysTooLarge", why, component="gateway", warning=True)

    def look(self) -> None:
        """Something has changed: everything is looked at again, in a moment."""
        self.queue.add_after("", _TOGETHER)

    def hosts_changed(self) -> None:
        """Some tenant has other host names: looked at again where a name that this one wants may be free or lost, and nowhere else."""
        if self._taken or self._claims.refusals(self._tenant, self._hostnames):
            self.look()

    def context(self, namespace: str, secret: str) -> ssl.SSLContext | None:
        """The certificate of a Secret, as it was last read."""
        found = self._certificates.get((namespace, secret))
        return found[1] if found else None

    def _changed(self, before: Object | None, after: Object | None) -> None:
        if not self._wanted.is_set() and self._has_any():
            self._wanted.set()
        if not _same(before, after):
            self.look()

    def _has_any(self) -> bool:
        """Something that needs more than a look at what is there."""
        if len(self._gateways) or len(self._ingresses):
            return True
        controllers = (conditions.CONTROLLER, conditions.NODE_CONTROLLER)
        return any(conditions.is_ours(c, controller) for c in self._classes for controller in controllers)

    # -- one look ------------------------------------------------------------------------------------------------------

    async def _look(self, _: str) -> float | None:
        self._missing.clear()
        found, of_nodes = await self._compiled({})
        if self._missing:
            await self._read_certificates()
            found, of_nodes = await self._compiled({})
        if self._leads:
            await self._claims.sync(self._tenant, found.routes.hostnames, self._fence, self._exists)
        self._hostnames = found.routes.hostnames
        self._taken = taken = self._claims.refusals(self._tenant, self._hostnames)
        if taken:
            found, of_nodes = await self._compiled(taken)
        self._publish(found.routes)
        if self._leads:
            if of_nodes is not None and self._sites is not None:
                await self._sites.write(of_nodes.tables, self._fence)
                for plural, statuses in of_nodes.statuses.items():
                    found.statuses[plural] |= statuses
                found.faults |= of_nodes.faults
            await self._write(found)
        return None

    async def _compiled(self, taken: Mapping[str, str]) -> tuple[Compilation, NodeCompilation | None]:
        """In the thread for costly work, in the tenant's share of it, and one node after the other: what others want done there comes between. The caches may
        change meanwhile, and are looked at again then."""
        grants: dict[str, list[Object]] = {}
        for grant in oldest(self._grants):
            grants.setdefault(meta.namespace_of(grant), []).append(grant)
        objects = GatewayObjects(
            classes=list(self._classes),
            gateways=list(self._gateways),
            routes=list(self._routes),
            tlsroutes=list(self._optional[0] or ()),
            tcproutes=list(self._optional[1] or ()),
            grants=grants,
            ingresses=list(self._ingresses),
            ingressclasses=list(self._ingressclasses),
            namespaces={meta.name_of(n): n for n in self._namespaces},
            service=self._services.get,
            certificate_fault=self._certificate_fault,
            unclassed=self._unclassed,
        )
        if concerned(objects):
            self._on_nodes.set()
        # once there were classes for nodes, what is there without them is taken back
        sites = self._sites.found if self._sites is not None and self._sites.ready.is_set() else None  # the leader's
        pool = self._ports.addresses
        occupied = {a for a in pool if self._claims.owners.get(a, self._tenant) != self._tenant}
        failed = dict(self._failed())
        now = self._wall()
        size = _steps(objects) * _OBJECT * (1 + len(sites or ()))

        def of_cloud() -> Compilation:
            return compile_routes(
                self._tenant,
                objects,
                self._ports,
                taken=taken,
                occupied=occupied,
                failed=failed,
                addresses=self._addresses,
                now=now,
            )

        made = await self._offload.run(self._tenant, size, of_cloud)
        if sites is None:
            return made, None
        steps = compile_in_steps(self._tenant, objects, sites, made, now)
        while (of_nodes := await self._offload.run(self._tenant, size, partial(next, steps))) is None:
            pass
        return made, of_nodes

    async def _exists(self, tenant: TenantId) -> bool:
        return await self._tenants.tenant_number(tenant) is not None

    # -- certificates --------------------------------------------------------------------------------------------------

    def _certificate_fault(self, namespace: str, name: str) -> str:
        secret = self._secrets.get(namespace, name)
        if secret is None:
            return f"there is no Secret {namespace}/{name}"
        known = self._certificates.get((namespace, name))
        if known is None or known[0] != _version(secret):
            self._missing.add((namespace, name))
        return f"Secret {namespace}/{name}: {known[2]}" if known and known[2] else ""

    async def _read_certificates(self) -> None:
        for namespace, name in sorted(self._missing)[:_MAX_SECRETS]:
            await asyncio.sleep(0)  # an API in this process never waits, and each takes milliseconds
            try:
                secret = await self._client.get(SECRETS, namespace, name)
            except NotFound:
                continue  # the cache hears of it
            read: tuple[str, ssl.SSLContext | None, str]
            try:
                read = (_version(secret), context_of(secret), "")
            except ValueError as exc:
                read = (_version(secret), None, str(exc))
            self._certificates[namespace, name] = read
        for key in [k for k in self._certificates if self._secrets.get(*k) is None]:
            del self._certificates[key]

    # -- what the objects say ------------------------------------------------------------------------------------------

    async def _write(self, found: Compilation) -> None:
        for resource in WITH_STATUS:
            if not found.statuses[resource.plural]:
                continue
            informer = self._informer(resource)
            for (namespace, name), status in found.statuses[resource.plural].items():
                obj = informer.get(namespace, name)
                if obj is not None and (patch := merge_diff(obj.get("status") or {}, status)):
                    body = {"metadata": {"uid": uid_of(obj)}, "status": patch}
                    try:
                        await self._client.merge_patch(resource, namespace, name, body, subresource="status")
                    except NotFound:
                        continue
                    except Invalid as exc:  # of one object: the others are not kept waiting for it
                        log.warning("tenant=%s %s %s/%s: %s", self._tenant, resource.plural, namespace, name, exc)
        self._tell(found)

    def _tell(self, found: Compilation) -> None:
        """An Ingress has no conditions: Events say what is wrong with it, each once."""
        now: dict[str, Collection[str]] = {}
        for key, faults in found.faults.items():
            if (ingress := self._ingresses.get(*key)) is None:
                continue
            now[uid_of(ingress)] = faults
            for text in faults:
                if text not in self._told.get(uid_of(ingress), ()):
                    self._recorder.event(
                        gateway.INGRESSES, ingress, "NotRouted", text, component="gateway", warning=True
                    )
        self._told = now

    def _informer(self, resource: Resource) -> Informer:
        return next(i for i in self._client.informers() if i.resource == resource)


def _steps(objects: GatewayObjects) -> int:
    """What there is to look at, which may be thousands of paths in one object; not all of it is counted when it is more than a little."""
    found = sum(map(len, objects.grants.values()))
    for count, those in (
        (lambda found: 1 + len((found.get("spec") or {}).get("listeners") or ()), objects.gateways),
        (httproutes.size, (*objects.routes, *objects.tlsroutes, *objects.tcproutes)),
        (ingresses.size, objects.ingresses),
    ):
        for obj in those:
            if found * _OBJECT > SMALL:
                return found
            found += count(obj)
    return found


def _labelled(namespace: Object) -> Object:
    """What selectors of listeners look at."""
    found = only_metadata(namespace)
    return {"metadata": {**found["metadata"], "labels": dict(meta.labels_of(namespace))}}


def _version(obj: Object) -> str:
    return str(meta.metadata(obj).get("resourceVersion") or "")


def _same(before: Object | None, after: Object | None) -> bool:
    """Nothing but the status is another: what we write ourselves needs no second look. A Secret and a Namespace are kept without contents."""
    if before is None or after is None or "spec" not in after:
        return False
    held, holds = ((obj.get("status") or {}).get("addresses") for obj in (before, after))  # by the leader, of a Gateway
    if held != holds:
        return False
    old, new = ({**meta.metadata(obj), "resourceVersion": "", "managedFields": None} for obj in (before, after))
    return before.get("spec") == after.get("spec") and old == new
