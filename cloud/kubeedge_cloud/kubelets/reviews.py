"""Who a bearer token is, and what a user may do at a node: asked of the node's own cluster, and remembered for as long as a kubelet would.

TokenReview (authentication.k8s.io/v1) and SubjectAccessReview (authorization.k8s.io/v1). One object a tenant: a token of one cluster says
nothing in another one.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import asdict

from kubeedge.api.client import KubeClient, Resource
from kubeedge.api.names import NodeName, Object
from kubeedge.api.status import TooManyRequests
from kubeedge.kit.bucket import Buckets
from kubeedge_cloud.kubelets.core import Answers, Caller, ObjectRight, Right

TOKENS = Resource("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", namespaced=False)
ACCESS = Resource("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False)

_KNOWN, _ALLOWED, _DENIED = 120.0, 300.0, 30.0  # seconds: a kubelet's defaults
_MOST = 1024  # answers of each kind that are remembered
_AT_ONCE = 4  # requests: the tenant's other work goes by the same connections
_MAX_TOKEN = 16 * 1024  # bytes
_RATE, _BURST, _ADDRESSES = (
    5.0,
    50.0,
    1024,
)  # questions of one client's address that are not answered from memory, a second and at once


class Reviews:
    """`clock` gives seconds. The methods raise StatusError: of the API server, or TooManyRequests for a client that asks too often."""

    def __init__(self, client: KubeClient, clock: Callable[[], float]) -> None:
        self._client = client
        self._clock = clock
        self._users: Answers[bytes, Caller | None] = Answers(_MOST)
        self._rights: Answers[tuple[Caller, ObjectRight], bool] = Answers(_MOST)
        self._asking = asyncio.Semaphore(_AT_ONCE)
        self._buckets: Buckets[str] = Buckets(_RATE, _BURST, _ADDRESSES)

    async def user_of(self, token: str, address: str) -> Caller | None:
        """None: the cluster does not know the token. `address`: of the client, by which questions are limited."""
        if not token or len(token) > _MAX_TOKEN:
            return None
        key = hashlib.sha256(token.encode()).digest()  # the token itself is not kept
        found = self._users.get(key, self._clock())
        if found is None:
            review = await self._ask(TOKENS, {"token": token}, address)
            user = Caller.of(review.get("user") or {}) if review.get("authenticated") is True else None
            found = self._users.put(key, user, self._clock() + (_KNOWN if user else _DENIED))
        return found.value

    async def may(self, user: Caller, node: NodeName, right: Right, address: str) -> bool:
        """Whether the authorizers of the cluster grant a right at a node."""
        return await self.grants(user, ObjectRight(right.verb, "", "v1", "nodes", right.subresource, "", node), address)

    async def grants(self, user: Caller, right: ObjectRight, address: str) -> bool:
        """Whether they grant a right on objects."""
        key = user, right
        found = self._rights.get(key, self._clock())
        if found is None:
            attributes = {name: value for name, value in asdict(right).items() if value}
            review = await self._ask(ACCESS, {**user.spec(), "resourceAttributes": attributes}, address)
            allowed = review.get("allowed") is True and review.get("denied") is not True
            found = self._rights.put(key, allowed, self._clock() + (_ALLOWED if allowed else _DENIED))
        return found.value

    async def _ask(self, resource: Resource, spec: Object, address: str) -> Object:
        now = self._clock()
        if (wait := self._buckets.of(address, now).take(now)) > 0:
            raise TooManyRequests(
                "too many questions of this client that only the cluster could answer", retry_after=max(1, round(wait))
            )
        async with self._asking:
            found = await self._client.create(resource, "", {"spec": spec})
        status: Object = found.get("status") or {}
        return status
