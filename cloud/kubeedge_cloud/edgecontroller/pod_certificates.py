"""PodCertificateRequests of a cluster that is a user's own, made in the name of the node that has the pod (ADR 62).

A node asks with a request that its new key has signed; everything else in a PodCertificateRequest is taken from the objects of the API. The name of
one is a digest of what the node asked with, so that any process finds what another one has made. While a signer has not answered, it is looked at
again with a growing delay. The embedded API has no signers: it refuses.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from kubeedge.api import meta, pod_certificates, service_accounts
from kubeedge.api.names import NodeName, Object
from kubeedge.api.pod_certificates import DENIED, FAILED, ISSUED, SignerAnswer, WantedCertificate
from kubeedge.api.resources import PODCERTIFICATEREQUESTS, SERVICEACCOUNTS
from kubeedge.api.status import AlreadyExists, Forbidden, InvalidObject, NoSuchPath, ObjectNotFound
from kubeedge.kit.backoff import Backoff
from kubeedge_cloud.controllers.objects import uid_of
from kubeedge_cloud.edgecontroller import node_objects
from kubeedge_cloud.edgecontroller.state import EdgeState, is_mirror

#: a signer answers within seconds, or when an administrator has started one
_LOOK = Backoff(0.25, 60.0)
_UNSERVED = "this API has no PodCertificateRequests (certificates.k8s.io/v1): the tenant has no cluster, or an old one"


class PodCertificateRequests:
    """`changed` hears of nodes that get an answer, or have taken one."""

    def __init__(self, state: EdgeState, changed: Callable[[NodeName], None]) -> None:
        self._state = state
        self._changed = changed
        self._asked: dict[NodeName, set[str]] = {}  # rows with which nodes ask, by what follows reported/
        #: by node and row: uid of the pod, and answers by source
        self._answers: dict[NodeName, dict[str, tuple[str, dict[str, SignerAnswer]]]] = {}
        self._looks: dict[tuple[NodeName, str], int] = {}

    def forget(self, node: NodeName) -> None:
        """The node was removed."""
        self._answers.pop(node, None)
        self._asked.pop(node, None)
        self._looks = {key: count for key, count in self._looks.items() if key[0] != node}

    def reported(self, node: NodeName, rest: str, *, asks: bool) -> None:
        """The node asks with a row, or does so no more: it has its answers."""
        self._looks.pop((node, rest), None)
        if asks:
            self._asked.setdefault(node, set()).add(rest)
            return
        self._asked.get(node, set()).discard(rest)
        self._answers.get(node, {}).pop(rest, None)
        self._changed(node)

    def rows(self, node: NodeName, have: Mapping[str, bytes]) -> dict[str, bytes]:
        """The answers that the node has not taken yet, by key below its desired prefix."""
        found = {}
        for rest in self._asked.get(node, ()):
            if rest in self._answers.get(node, {}):
                found[rest] = node_objects.canonical(pod_certificates.answer_row(*self._answers[node][rest]))
            elif rest in have:
                found[rest] = have[rest]  # another process has found it
        return found

    async def look(self, node: NodeName, rest: str, report: Object) -> float | None:
        """Make what is asked for, and see what became of it; seconds until it should be looked at again. Raises Invalid for what no node of ours
        reports, and what the API raises."""
        uid, requests = pod_certificates.requests_of(report)
        namespace, _, name = rest.partition("/")[2].partition("/")
        pod = self._state.pods.get(namespace, name)
        if pod is None or uid_of(pod) != uid or is_mirror(pod) or pod.get("spec", {}).get("nodeName") != node:
            return None  # its node takes the row back when it hears of it
        if not self._state.has_node(node):
            return _LOOK.last
        wanted = {one.source: one for one in pod_certificates.wanted_by(pod)}
        _, known = self._answers.get(node, {}).get(rest, (uid, {}))
        answers, waits = {}, False
        for source, request in requests.items():
            answer = known.get(source)
            if answer is None or answer.request != pod_certificates.digest(request):
                answer = await self._ask(node, pod, wanted[source], request) if source in wanted else None
                waits |= answer is None
            if answer is not None:
                answers[source] = answer
        if rest not in self._asked.get(node, ()):
            return None
        if answers != known:
            self._answers.setdefault(node, {})[rest] = (uid, answers)
            self._changed(node)
        if not waits:
            return None
        self._looks[node, rest] = looks = self._looks.get((node, rest), 0) + 1
        return _LOOK.delay(looks)

    async def _ask(self, node: NodeName, pod: Object, wanted: WantedCertificate, request: bytes) -> SignerAnswer | None:
        """None: there is no answer yet."""
        digest = pod_certificates.digest(request)
        if not self._state.cluster:
            return SignerAnswer(digest, FAILED, "NotServed", _UNSERVED)
        name = f"req-{hashlib.sha256(f'{uid_of(pod)}/{wanted.source}/{digest}'.encode()).hexdigest()[:40]}"
        client = self._state.client_of(node)
        try:
            found = await client.get(PODCERTIFICATEREQUESTS, meta.namespace_of(pod), name)
        except NoSuchPath:
            return SignerAnswer(digest, FAILED, "NotServed", _UNSERVED)
        except (ObjectNotFound, Forbidden):  # nodes may not read what is not there
            return await self._create(node, pod, wanted, request, name)
        return answer_in(found, digest)

    async def _create(
        self, node: NodeName, pod: Object, wanted: WantedCertificate, request: bytes, name: str
    ) -> SignerAnswer | None:
        client, namespace = self._state.client_of(node), meta.namespace_of(pod)
        account = service_accounts.account_of(pod)
        found = await client.get(SERVICEACCOUNTS, namespace, account)
        owner = {"apiVersion": "v1", "kind": "Pod", "name": meta.name_of(pod), "uid": uid_of(pod)}
        spec: Object = {
            "signerName": wanted.signer,
            "podName": meta.name_of(pod), "podUID": uid_of(pod),
            "serviceAccountName": account, "serviceAccountUID": uid_of(found),
            "nodeName": node, "nodeUID": uid_of(self._state.nodes.get("", node) or {}),
            "stubPKCS10Request": base64.b64encode(request).decode(),
        }  # fmt: skip
        if wanted.seconds is not None:
            spec["maxExpirationSeconds"] = wanted.seconds
        if wanted.annotations:
            spec["unverifiedUserAnnotations"] = dict(wanted.annotations)
        made = {"metadata": {"name": name, "namespace": namespace, "ownerReferences": [owner]}, "spec": spec}
        try:
            await client.create(PODCERTIFICATEREQUESTS, namespace, made)
        except AlreadyExists:
            pass  # it was made, and the authorizer has not heard of it yet
        except NoSuchPath:
            return SignerAnswer(pod_certificates.digest(request), FAILED, "NotServed", _UNSERVED)
        except InvalidObject as exc:
            message = str(exc)[: pod_certificates.MAX_MESSAGE]
            return SignerAnswer(pod_certificates.digest(request), FAILED, "Invalid", message)
        return None


def answer_in(found: Object, digest: str) -> SignerAnswer | None:
    """What a PodCertificateRequest says of the request with that digest; None: nothing yet."""
    status = found.get("status")
    status = status if isinstance(status, dict) else {}
    for condition in status.get("conditions") or ():
        outcome, said = condition.get("type"), condition.get("status")
        if outcome in (DENIED, FAILED) and said == "True":
            reason, message = (str(condition.get(part) or "") for part in ("reason", "message"))
            return SignerAnswer(digest, outcome, reason[:256], message[: pod_certificates.MAX_MESSAGE])
        if outcome == ISSUED and said == "True":
            return _issued(status, digest)
    return None


def _issued(status: Mapping[str, Any], digest: str) -> SignerAnswer:
    chain = str(status.get("certificateChain") or "")
    times = [meta.parse_timestamp(status.get(name)) for name in ("notBefore", "beginRefreshAt", "notAfter")]
    not_before, refresh, not_after = times
    if len(chain) > pod_certificates.MAX_CHAIN or not_before is None or refresh is None or not_after is None:
        return SignerAnswer(digest, FAILED, "Unusable", "the signer has issued what is too long, or has no times")
    return SignerAnswer(digest, ISSUED, chain=chain, not_before=not_before, refresh=refresh, not_after=not_after)
