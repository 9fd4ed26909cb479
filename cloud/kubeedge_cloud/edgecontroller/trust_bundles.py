"""ClusterTrustBundles of a cluster that is a user's own, for the volumes of pods that ask for them.

All of them are watched, once, by the identity of one node whose pods ask for any; nothing is while none does. What a source means is found here
(kubeedge.api.trust_bundles), so that a node has what it needs and no more.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable, Mapping
from itertools import islice

from kubeedge.api import meta, trust_bundles
from kubeedge.api.client import KubeClient
from kubeedge.api.names import NodeName, Object
from kubeedge.api.resources import CLUSTERTRUSTBUNDLES
from kubeedge.api.selectors import of_selector
from kubeedge.api.trust_bundles import WantedBundle
from kubeedge.errors import Invalid
from kubeedge.pki.csr import pem
from kubeedge_cloud.controllers.informer.driver import Informer
from kubeedge_cloud.edgecontroller import node_objects

MAX_WANTED = 1000  # things that the pods of one node ask for; more have no row
MAX_BUNDLE = 1024 * 1024  # bytes of certificates that one source gets, as many as Kubernetes allows in one bundle
_KEPT = 4096  # answers that are kept for others who ask for the same
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----")


class TrustBundles:
    """`client_of` gives the client with a node's identity, `changed` hears of nodes that should be looked at again."""

    def __init__(self, client_of: Callable[[NodeName], KubeClient], changed: Callable[[NodeName], None]) -> None:
        self._client_of = client_of
        self._tell = changed
        self._users: dict[NodeName, None] = {}  # a dict for its order
        self._by = NodeName("")
        self._informer: Informer | None = None
        self._task: asyncio.Task[None] | None = None
        self._answers: dict[WantedBundle, bytes | None] = {}
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Watch until cancelled, while anybody asks for any. `rows` counts from here on."""
        async with asyncio.TaskGroup() as self._group:
            await asyncio.Event().wait()

    def rows(self, node: NodeName, pods: Iterable[Object], have: Mapping[str, bytes]) -> dict[str, bytes]:
        """What these pods of the node ask for, by key below its desired prefix. What it has stays until it is known what there is."""
        wanted = list(islice(dict.fromkeys(w for pod in pods for w in trust_bundles.wanted_by(pod)), MAX_WANTED))
        self._refer(node, bool(wanted))
        found = {}
        known = self._informer is not None and self._informer.synced.is_set()
        for one in wanted:
            key = node_objects.key(trust_bundles.RESOURCE, "", one.row)
            row = self._answer(one) if known else have.get(key)
            if row is not None:
                found[key] = row
        return found

    def forget(self, node: NodeName) -> None:
        """The node was removed."""
        self._refer(node, False)

    def _refer(self, node: NodeName, asks: bool) -> None:
        if asks:
            self._users[node] = None
            if self._task is None:
                self._follow()
        elif node in self._users:
            del self._users[node]
            if node == self._by or not self._users:  # it may not ask any more
                self._end()
                if self._users:
                    self._follow()

    def _follow(self) -> None:
        assert self._group is not None, "run() comes first"
        self._by = next(iter(self._users))
        self._informer = Informer(self._client_of(self._by), CLUSTERTRUSTBUNDLES)
        self._informer.on_change(self._changed)
        self._task = self._group.create_task(self._run(self._informer), name=CLUSTERTRUSTBUNDLES.plural)

    def _end(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._task = self._informer = None
        self._answers.clear()

    async def _run(self, informer: Informer) -> None:
        steps, waiting = asyncio.create_task(informer.run()), asyncio.create_task(informer.synced.wait())
        try:
            await asyncio.wait((steps, waiting), return_when=asyncio.FIRST_COMPLETED)
            self._changed(None, None)  # no event says that there is none
            await steps
        finally:
            steps.cancel()
            waiting.cancel()

    def _changed(self, before: Object | None, after: Object | None) -> None:
        self._answers.clear()
        for node in self._users:
            self._tell(node)

    def _answer(self, wanted: WantedBundle) -> bytes | None:
        if wanted not in self._answers:
            if len(self._answers) >= _KEPT:
                self._answers.clear()
            self._answers[wanted] = self._found(wanted)
        return self._answers[wanted]

    def _found(self, wanted: WantedBundle) -> bytes | None:
        assert self._informer is not None
        if wanted.name:
            one = self._informer.get("", wanted.name)
            bundles = [] if one is None else [one]
        else:
            bundles = _selected(self._informer, wanted)
        text = merged(str((bundle.get("spec") or {}).get("trustBundle") or "") for bundle in bundles)
        if not text:
            return None
        return node_objects.canonical({"metadata": {"name": wanted.row}, "trustBundle": text})


def _selected(bundles: Iterable[Object], wanted: WantedBundle) -> list[Object]:
    """Those of the signer that the selector matches; without a selector none, as in Kubernetes."""
    if not wanted.selector:
        return []
    try:
        selector = of_selector(json.loads(wanted.selector))
    except Invalid:
        return []
    return [
        bundle
        for bundle in bundles
        if (bundle.get("spec") or {}).get("signerName") == wanted.signer and selector.matches(meta.labels_of(bundle))
    ]


def merged(bundles: Iterable[str]) -> str:
    """Each certificate of these once, in an order that does not depend on theirs. What would be longer than MAX_BUNDLE is left out."""
    found: set[bytes] = set()
    size = 0
    for bundle in bundles:
        for match in _PEM.finditer(bundle, 0, MAX_BUNDLE):
            try:
                der = base64.b64decode("".join(match[1].split()), validate=True)
            except binascii.Error:
                continue
            size += 0 if der in found else len(match[0]) + 1
            if size > MAX_BUNDLE:
                break
            found.add(der)
    return b"".join(pem("CERTIFICATE", der) for der in sorted(found)).decode()
