"""The certificates of this node's pods: makes keys, asks, keeps what came, renews it.

What a pod has is in the local store before anybody is asked for it, so that a restart goes on with the same key, and a pod starts without the
cloud with what it had. Lives elsewhere: decisions (core.py), files in volumes (appengine.volumes.contents), who answers (the cloud's EdgeController).
"""

from __future__ import annotations

import asyncio
import base64
import logging
import random
from collections.abc import Awaitable, Callable

from kubeedge._fastpath import keys as new_keys
from kubeedge.api import keys
from kubeedge.api.names import NamespacedName, Object
from kubeedge.api.pod_certificates import RESOURCE, SignerAnswer, WantedCertificate, answers_of, request_row, wanted_by
from kubeedge.appengine.podcertificates import core
from kubeedge.appengine.podcertificates.core import PodCertificate
from kubeedge.errors import Invalid, KubeEdgeError
from kubeedge.kit.dataclasses import dataclass, field, replace
from kubeedge.pki.csr import pem
from kubeedge.store.model import Delete, Op, Put, Store

log = logging.getLogger("kubeedge.appengine")

_JITTER = 300.0  # seconds by which renewals of many pods are apart, as the kubelet's
_AGAIN = 5.0  # seconds after the store, or libcrypto, could not
_LONGEST = 3600.0  # seconds; the wall clock may be set meanwhile


async def make(key_type: str) -> tuple[bytes, bytes]:
    """A new key and a request. RSA takes seconds, and longer on a slow machine: the thread of one who is cancelled ends, too."""
    stop = bytearray(1)
    try:
        return await asyncio.to_thread(new_keys.request, key_type, stop)
    finally:
        stop[0] = 1


@dataclass(slots=True)
class _CertifiedPod:
    """A pod that asks for certificates, and what it has, by source."""

    uid: str
    wanted: dict[str, WantedCertificate]
    has: dict[str, PodCertificate] = field(default_factory=dict)

    def all(self) -> dict[str, PodCertificate]:
        """Of each source, also of those that have nothing yet."""
        return {source: self.has.get(source) or PodCertificate() for source in self.wanted}


class PodCertificates:
    """`changed` hears of (namespace, name, row) when volumes have other files, of None when the pod went; `warn` of (uid, reason, message).
    `wall`: time of day. `make` gives a new key and a request of a key type, both in DER."""

    def __init__(
        self,
        store: Store,
        changed: Callable[[str, str, Object | None], None],
        warn: Callable[[str, str, str], Awaitable[None]],
        *,
        wall: Callable[[], float],
        make: Callable[[str], Awaitable[tuple[bytes, bytes]]] = make,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._changed, self._warn = changed, warn
        self._wall, self._make, self._chance = wall, make, chance
        self._pods: dict[NamespacedName, _CertifiedPod] = {}
        self._answers: dict[NamespacedName, Object] = {}
        self._wake = asyncio.Event()

    async def pod(self, namespace: str, name: str, obj: Object) -> None:
        """It is desired here. What it had before a restart is there when this returns."""
        uid = str((obj.get("metadata") or {}).get("uid") or "")
        known = self._pods.get((namespace, name))
        if known is not None and known.uid == uid:
            return  # its volumes do not change
        pod = _CertifiedPod(uid, {wanted.source: wanted for wanted in wanted_by(obj)})
        ours, answers = keys.local_certificates(namespace, name), keys.desired(RESOURCE, namespace, name)
        for place, take in ((ours, self._read), (answers, self._answered)):
            kept = await self._store.get(place)
            if kept is not None:
                take((namespace, name), pod, core.decoded(kept.value))
        self._pods[namespace, name] = pod
        self._wake.set()

    def _read(self, key: NamespacedName, pod: _CertifiedPod, row: Object) -> None:
        try:
            pod.has = core.read(row, pod.uid)
        except Invalid as exc:
            log.error("pod %s/%s: %s", *key, exc)
        self._changed(*key, core.row(pod.uid, pod.has))

    def _answered(self, key: NamespacedName, pod: _CertifiedPod, row: Object) -> None:
        self._answers[key] = row

    def answer(self, namespace: str, name: str, row: Object) -> None:
        """The cloud's row about the pod is there, or another one."""
        if (namespace, name) in self._pods:
            self._answers[namespace, name] = row
            self._wake.set()

    async def forget(self, namespace: str, name: str) -> None:
        """The pod is not desired any more: its keys go, also from memory."""
        self._answers.pop((namespace, name), None)
        if self._pods.pop((namespace, name), None) is not None:
            self._changed(namespace, name, None)
            await self._store.txn((), [Delete(key) for key in _rows(namespace, name)])

    async def run(self) -> None:
        """Look at what is due, and at what has come, until cancelled."""
        while True:
            self._wake.clear()
            dues = [due for key in list(self._pods) if (due := await self._look(key)) is not None]
            if (again := await self._ask_one()) is not None:
                dues.append(again)
            now = self._wall()
            delay = min(max(0.0, min(dues, default=now + _LONGEST) - now), _LONGEST)
            try:
                async with asyncio.timeout(delay):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _look(self, key: NamespacedName) -> float | None:
        """Do what is due for the pod; when to look again, in seconds since 1970."""
        pod = self._pods.get(key)
        if pod is None:
            return None  # it went meanwhile
        now = self._wall()
        try:
            return await self._advance(key, pod, now)
        except (KubeEdgeError, OSError) as exc:
            log.warning("certificates of pod %s/%s: %s", *key, exc)
            return now + _AGAIN

    async def _advance(self, key: NamespacedName, pod: _CertifiedPod, now: float) -> float | None:
        answers, before = self._answers_to(key, pod), pod.all()
        has = {source: replace(kept) for source, kept in before.items()}
        warnings = []
        for source, kept in has.items():
            if (answer := answers.get(source)) is not None and kept.request:
                request = base64.b64decode(kept.request)
                warnings.append(kept.answered(answer, request, _JITTER * self._chance(), now))
            warnings.append(kept.age(now))
        if has != before:
            await self._keep(key, pod, has)
        for warning in warnings:
            if warning is not None:
                await self._warn(pod.uid, *warning)
        return min((due for kept in has.values() if (due := kept.due(now)) is not None), default=None)

    async def _ask_one(self) -> float | None:
        """Make one key that is due, and ask with it; when to look again. What has come meanwhile for other pods is looked at before the next key
        is made, and those of RSA are the last."""
        now = self._wall()
        due = [
            (pod.wanted[source].key_type.startswith("RSA"), key, pod.wanted[source])
            for key, pod in self._pods.items()
            for source, kept in pod.all().items()
            if kept.is_due(now)
        ]
        if not due:
            return None
        _, key, wanted = min(due, key=lambda one: one[0])
        pod = self._pods[key]
        try:
            private, request = await self._make(wanted.key_type)
            has = {source: replace(kept) for source, kept in pod.all().items()}
            has[wanted.source].asked(pem("PRIVATE KEY", private).decode(), base64.b64encode(request).decode())
            await self._keep(key, pod, has)
        except (KubeEdgeError, OSError) as exc:
            log.warning("certificates of pod %s/%s: %s", *key, exc)
            return now + _AGAIN
        return now

    def _answers_to(self, key: NamespacedName, pod: _CertifiedPod) -> dict[str, SignerAnswer]:
        row = self._answers.get(key)
        if row is None:
            return {}
        try:
            uid, answers = answers_of(row)
        except Invalid as exc:
            log.warning("pod %s/%s: %s", *key, exc)
            return {}
        return answers if uid == pod.uid else {}

    async def _keep(self, key: NamespacedName, pod: _CertifiedPod, has: dict[str, PodCertificate]) -> None:
        """In one transaction with what is asked for: a request whose key is not kept would be for nobody."""
        local, reported = _rows(*key)
        requests = {source: base64.b64decode(kept.request) for source, kept in has.items() if kept.request}
        asked: Op = Put(reported, core.encoded(request_row(pod.uid, requests))) if requests else Delete(reported)
        if self._pods.get(key) is not pod:
            return  # it went while keys were made
        await self._store.txn((), [Put(local, core.encoded(core.row(pod.uid, has))), asked])
        pod.has = has
        self._changed(*key, core.row(pod.uid, has))


def _rows(namespace: str, name: str) -> tuple[str, str]:
    return keys.local_certificates(namespace, name), keys.reported(RESOURCE, namespace, name)
