"""What nodes should have, written below /t/T/edge/N/desired/: the difference between node_objects.desired and the store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import TypeVar

from kubeedge import faults
from kubeedge.api import keys, meta
from kubeedge.api.names import NamespacedName, NodeName, Object
from kubeedge.api.resources import NODES
from kubeedge.store.model import Compare, CompareTarget, Delete, Op, Put
from kubeedge_cloud.controllers.queue import WorkQueue
from kubeedge_cloud.edgecontroller import claims, node_objects, policies, policy_pods, services, token_issuer
from kubeedge_cloud.edgecontroller.copies import Copies
from kubeedge_cloud.edgecontroller.data_rows import DataRows
from kubeedge_cloud.edgecontroller.gateway_needs import GATEWAYS, NO_NEEDS, GatewayNeeds, gateway_needs
from kubeedge_cloud.edgecontroller.referenced import CLOUD
from kubeedge_cloud.edgecontroller.state import EdgeState
from kubeedge_cloud.edgecontroller.token_issuer import TokenIssuer
from kubeedge_cloud.edgecontroller.tokens import PodTokens
from kubeedge_cloud.edgecontroller.trust_bundles import TrustBundles
from kubeedge_cloud.tenants.model import node_key

T = TypeVar("T")
VALID = "valid"
_OPS = 1000  # in one transaction
_ROOM = 30.0  # seconds until nodes that wait for room are looked at again
_SETTLED = ("", "", "")
_AT_ONCE = 64  # nodes that are looked at: what one change means for all of them is few commits then


class DesiredState:
    """`answers` gives the answers that a node has not taken yet, of what it has below desired/; `fence` holds while this process leads; `copies` bounds the
    bytes of all nodes."""

    def __init__(
        self,
        state: EdgeState,
        answers: Callable[[NodeName, dict[str, bytes]], dict[str, bytes]],
        fence: Callable[[], Sequence[Compare]],
        copies: Copies,
    ) -> None:
        self._state = state
        self._copies = copies
        self._refused: dict[NodeName, int] = {}  # keys that did not fit, as was told last
        self._answered = answers
        self._fence = fence
        self.issuer = TokenIssuer(state, self._issuer_changed)
        self._tokens = PodTokens(state, self.issuer)
        #: the embedded API has none
        self.bundles = TrustBundles(state.client_of, lambda node: self.queue.add(node)) if state.cluster else None
        self._references: dict[NodeName, frozenset[tuple[str, str, str]]] = {}
        self._rows = DataRows()
        self._catalogue = services.Catalogue()
        self._namespaces: dict[NodeName, frozenset[str]] = {}  # whose Services the node has
        self._policies = policies.PolicyCatalogue(lambda: state.pods)
        self._gateways: dict[NodeName, GatewayNeeds] = {}
        self._isolated: dict[NodeName, frozenset[str]] = {}  # namespaces whose policies the node has
        self._settled = False  # every policy of the first list has been looked at
        #: what policies depend on, one after the other: ("pod" or "policy" or "namespace", namespace, name), or _SETTLED
        self.policy_queue: WorkQueue[tuple[str, str, str]] = WorkQueue(
            f"policies of {state.tenant}", self._look_at_policies, workers=1
        )
        self.queue: WorkQueue[NodeName] = WorkQueue(
            f"desired state of {state.tenant}", self._sync_down, workers=_AT_ONCE
        )

    def forget(self, name: NodeName) -> None:
        """The node was removed: changes of ConfigMaps and Secrets concern it no longer."""
        for reference in self._references.pop(name, ()):
            self._rows.forget(reference)
        self._refused.pop(name, None)
        self._copies.forget(name)
        self._tokens.forget(name)
        if self.bundles is not None:
            self.bundles.forget(name)
        self._namespaces.pop(name, None)
        self._isolated.pop(name, None)
        self._gateways.pop(name, None)
        self._look_for_room()

    def _look_for_room(self) -> None:
        for short in self._copies.short():
            self.queue.add_after(short, _ROOM)

    def pod_changed(self, before: Object | None, after: Object | None) -> None:
        """Queues the nodes of the pod before and after, unless only its status has changed."""
        if policy_pods.differs(before, after):
            self._policies_depend("pod", before, after)
        # What a node reports about a pod changes nothing else that it should have.
        if before is not None and after is not None and node_objects.pod(before) == node_objects.pod(after):
            return
        for obj in (before, after):
            name = (obj or {}).get("spec", {}).get("nodeName")
            if name in self._state.records:
                self.queue.add(NodeName(name))

    def service_changed(self, before: Object | None, after: Object | None) -> None:
        """Queues all nodes when a published web service has changed, and those whose pods have variables for the Service."""
        versions = (before, after)
        if any(obj is not None and node_objects.web_service(obj) is not None for obj in versions):
            for name in self._state.records:
                self.queue.add(name)
            return
        was, now = (None if obj is None else node_objects.linked_service(obj) for obj in versions)
        if was == now:
            return
        service = after or before or {}
        namespace, everywhere = meta.namespace_of(service), node_objects.is_api_server(service)
        for name in self._state.records:
            if any(everywhere or self._is_linked(pod, namespace) for pod in self._state.pods_of(name)):
                self.queue.add(name)

    @staticmethod
    def _is_linked(pod: Object, namespace: str) -> bool:
        return meta.namespace_of(pod) == namespace and node_objects.has_service_links(pod)

    def mesh_changed(self, resource: str, before: Object | None, after: Object | None) -> None:
        """Queues the nodes that have the namespace's Services and EndpointSlices; `resource` is the plural."""
        if self._catalogue.changed(resource, before, after):
            namespace = meta.namespace_of(after or before or {})
            for name, namespaces in self._namespaces.items():
                if namespace in namespaces or services.ALL in namespaces:
                    self.queue.add(name)

    def gateways_changed(self, name: NodeName, row: bytes | None) -> None:
        """The routes of Gateways on the node have changed: certificates and Services that they need go down with them."""
        found = NO_NEEDS if row is None else gateway_needs(row)
        if found != self._gateways.get(name, NO_NEEDS):
            self._gateways[name] = found
            self.queue.add(name)
        if row is None:
            self._gateways.pop(name, None)

    def policy_changed(self, before: Object | None, after: Object | None) -> None:
        """Looks at the policy soon."""
        self._policies_depend("policy", before, after)

    def namespace_changed(self, before: Object | None, after: Object | None) -> None:
        """Looks soon at the policies that mean other namespaces now."""
        self._policies_depend("namespace", before, after)

    def _policies_depend(self, kind: str, before: Object | None, after: Object | None) -> None:
        obj = after or before or {}
        self.policy_queue.add((kind, meta.namespace_of(obj), meta.name_of(obj)))

    def policies_listed(self) -> None:
        """All policies, namespaces and pods are known: when what is queued has been looked at, nodes lose what went while no process was running."""
        self.policy_queue.add(_SETTLED)

    async def _look_at_policies(self, key: tuple[str, str, str]) -> None:
        """Queues the nodes that have policies which are other ones now."""
        if key == _SETTLED:
            self._settled = True
            for node in self._state.records:
                self.queue.add(node)
            return
        before = self._policies.weight
        self._queue_isolated(await _in_turns(self._steps_of(*key)))
        for short in self._policies.short if self._policies.has_room_again(before) else ():
            self.policy_queue.add(("policy", *short))

    def _steps_of(self, kind: str, namespace: str, name: str) -> policies.Steps:
        if kind == "pod":
            return self._policies.pod_changed(namespace, name, self._state.pods.get(namespace, name))
        if kind == "policy":
            return self._policies.policy_changed(namespace, name, self._state.policies.get(namespace, name))
        return self._policies.namespace_changed(name, self._state.namespaces.get("", name))

    def _queue_isolated(self, namespaces: set[str]) -> None:
        for name, isolated in self._isolated.items() if namespaces else ():
            if not isolated.isdisjoint(namespaces):
                self.queue.add(name)

    def data_changed(self, resource: str, before: Object | None, after: Object | None) -> None:
        """Queues the nodes whose pods refer to the ConfigMap or Secret; `resource` is the plural."""
        obj = after or before or {}
        object_key = (resource, meta.namespace_of(obj), meta.name_of(obj))
        self._rows.forget(object_key)
        for name, references in self._references.items():
            if object_key in references:
                self.queue.add(name)

    def account_changed(self, before: Object | None, after: Object | None) -> None:
        """Pods of a service account that has changed, or is another of the same name, get other tokens."""
        account = after or before or {}
        namespace, name = meta.namespace_of(account), meta.name_of(account)
        for node in self._state.records:
            if self._tokens.account_changed(node, self._state.pods_of(node), namespace, name):
                self.queue.add(node)

    def _issuer_changed(self, account: NamespacedName | None) -> None:
        """Queue the nodes whose pods have tokens of `account`; None: the issuer's keys have changed, which concerns all accounts."""
        for node in self._state.records:
            if account is None or self._tokens.has(account, self._state.pods_of(node)):
                self.queue.add(node)

    async def begin(self) -> None:
        """Before the queue runs: count what all nodes have."""
        for name in self._state.records:
            self._copies.found(name, (await self._stored(name))[1])

    async def _stored(self, name: NodeName) -> tuple[str, dict[str, bytes]]:
        """The node's prefix, and what it has below it."""
        prefix = keys.edge_desired(self._state.tenant, name)
        found = await self._state.store.range(prefix, keys.prefix_end(prefix))
        # the DeviceController's, kubeedge_cloud.messages', and what its Gateways serve
        others = (f"{prefix}devices/", f"{prefix}messages/", prefix + GATEWAYS)
        return prefix, {kv.key.removeprefix(prefix): kv.value for kv in found.kvs if not kv.key.startswith(others)}

    async def _sync_down(self, name: NodeName) -> float | None:
        """Seconds until a token of one of its pods is due."""
        if name not in self._state.records:
            return None
        prefix, have = await self._stored(name)
        due = await self._tokens.renew(name, have)
        if self._has_proxy(name):
            await _in_turns(self._policies.encode(policy_pods.isolated_namespaces(self._state.pods_of(name))))
        if name not in self._state.records:
            return None  # it was removed meanwhile, and what was known of it is forgotten
        # from here to the transaction nothing waits: answers to writes go down with what the writes have changed
        if not self._state.has_node(name):
            self._state.refer(name, ())
            return None  # it keeps what it has; when its Node comes, or its record goes, it is looked at again
        pods = self._state.pods_of(name)
        of_volumes = self._volumes_of(name, pods, have)
        references = self._references_of(pods) | of_volumes
        certificates = self._gateways.get(name, NO_NEEDS).secrets
        self._state.refer(name, references)
        tokens = {
            secret for service in self._state.services if (secret := node_objects.token_secret(service)) is not None
        }
        self._state.refer(CLOUD, tokens.union(*(needs.secrets for needs in self._gateways.values())))
        references |= tokens | certificates
        for reference in self._references.get(name, frozenset()) - references:
            self._rows.forget(reference)
        self._references[name] = references
        objects = {
            (resource, namespace, object_name): obj
            for resource, namespace, object_name in references
            if (obj := self._state.find(resource, namespace, object_name)) is not None
        }
        node = self._state.nodes.get("", name)
        wanted = node_objects.desired(node, pods, objects, self._state.services, self._rows.of)
        wanted |= {node_objects.key(*of): self._rows.of(of, objects[of]) for of in certificates if of in objects}
        wanted |= claims.rows(objects, of_volumes)
        wanted |= self._not_known_yet(references, have)
        if self.bundles is not None:
            wanted |= self.bundles.rows(name, pods, have)
        tokens_of_pods = self._tokens.of(name, pods, have)
        wanted |= tokens_of_pods
        if tokens_of_pods and (row := self.issuer.row(have.get(token_issuer.ROW))) is not None:
            wanted[token_issuer.ROW] = row
        self._namespaces[name] = self._namespaces_of(name, pods)
        wanted |= self._catalogue.of(self._namespaces[name])
        self._isolated[name] = policy_pods.isolated_namespaces(pods) if self._has_proxy(name) else frozenset()
        wanted |= self._policies.of(self._isolated[name])
        wanted |= self._not_listed_yet(have)
        wanted |= self._answered(name, have)
        if (valid := self._state.kubeconfigs) is not None:
            wanted[node_objects.key("kubeconfigs", "", VALID)] = node_objects.canonical({VALID: list(valid)})
        wanted = self._fitting(name, have, wanted)
        ops: list[Op] = [Put(prefix + key, value) for key, value in wanted.items() if have.get(key) != value]
        ops += [Delete(prefix + key) for key in have.keys() - wanted.keys()]
        exists = Compare(node_key(self._state.tenant, name), CompareTarget.VERSION, ">", 0)
        for start in range(0, len(ops), _OPS):
            faults.at("edgecontroller.desired.before_commit")
            done = await self._state.store.txn((exists, *self._fence()), ops[start : start + _OPS])
            if not done.succeeded:
                return None  # the node was removed meanwhile and must stay removed; or another process leads
        return due

    @staticmethod
    def _references_of(pods: Sequence[Object]) -> frozenset[tuple[str, str, str]]:
        """(resource, namespace, name) of the ConfigMaps and Secrets that pods refer to."""
        return frozenset(
            (resource, meta.namespace_of(pod), object_name)
            for pod in pods
            for resource, object_name in node_objects.references(pod)
        )

    def _volumes_of(
        self, node: NodeName, pods: Sequence[Object], have: Mapping[str, bytes]
    ) -> frozenset[tuple[str, str, str]]:
        """All that volumes of pods are made of, as far as it is known here, or on the node: what leads on from there is kept, too."""
        if not self._state.cluster:
            return frozenset()

        def find(resource: str, namespace: str, name: str) -> Object | None:
            if self._state.knows(resource, namespace, name):
                return self._state.find(resource, namespace, name)
            row = have.get(node_objects.key(resource, namespace, name))
            return None if row is None else json.loads(row)

        return frozenset(claims.behind((found for pod in pods for found in claims.of_pod(pod)), find, node))

    def _fitting(self, name: NodeName, have: Mapping[str, bytes], wanted: dict[str, bytes]) -> dict[str, bytes]:
        """What the copies of the tenant have room for; the Node says it as an Event when something is refused."""
        before = self._copies.total
        fitting = self._copies.fit(name, have, wanted)
        if self._copies.total < before:
            self._look_for_room()
        many = len(fitting.refused)
        node = self._state.nodes.get("", name)
        if many and many != self._refused.get(name) and node is not None:
            message = (
                f"{many} objects do not fit into what the copies of this tenant's objects on all its nodes may have "
                f"({self._copies.limit} bytes), the first one is {fitting.refused[0]:.200}"
            )
            self._state.recorder.event(
                NODES, node, "ExceededCopiesQuota", message, component="edgecontroller", warning=True
            )
        self._refused[name] = many
        return dict(fitting.wanted)

    def _not_known_yet(self, references: Iterable[tuple[str, str, str]], have: Mapping[str, bytes]) -> dict[str, bytes]:
        """What the node has of data whose state is not known: a cloud that has just started takes nothing away."""
        kept = {}
        for resource, namespace, name in references:
            key = node_objects.key(resource, namespace, name)
            if key in have and not self._state.data[resource].knows(namespace, name):
                kept[key] = have[key]
        return kept

    def _not_listed_yet(self, have: Mapping[str, bytes]) -> dict[str, bytes]:
        """The same for EndpointSlices and policies, where nobody waits for the first list."""
        slices, listed = self._state.slices, (self._state.policies, self._state.namespaces)
        unknown = [] if slices.synced.is_set() else ["endpointslices/"]
        if not self._settled or not all(informer.synced.is_set() for informer in listed):
            unknown.append(policies.PREFIX)
        return {key: value for key, value in have.items() if key.startswith(tuple(unknown))}

    def _has_proxy(self, name: NodeName) -> bool:
        """Whether the node runs a service proxy, which enforces policies, too: it says so."""
        return f"{name}/reported/{services.REPORT}" in self._state.reported

    def _namespaces_of(self, name: NodeName, pods: Sequence[Object]) -> frozenset[str]:
        """None for a node without a service proxy."""
        if not self._has_proxy(name):
            return frozenset()
        found = services.namespaces(self._state.nodes.get("", name), pods)
        return found if services.ALL in found else found | self._gateways.get(name, NO_NEEDS).namespaces


async def _in_turns(steps: Generator[None, None, T]) -> T:
    """All of it; the event loop does its other work in between."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: T = end.value
            return found
        await asyncio.sleep(0)
