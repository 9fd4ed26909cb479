"""The rules of a tenant, by a client of its API: that of a cluster of its own, or the embedded one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kubeedge.api import meta, rules
from kubeedge.api.client import KubeClient
from kubeedge.api.names import Object, TenantId
from kubeedge.apiserver.rule_calls import MOST_RULES
from kubeedge.errors import Conflict

_ATTEMPTS = 5  # of a write beside others


class ClientRules:
    """`client` is of the tenant's API."""

    def __init__(self, tenant: TenantId, client: KubeClient) -> None:
        self._tenant = tenant
        self._client = client

    @property
    def tenant(self) -> TenantId:
        """The tenant whose rules they are."""
        return self._tenant

    async def rules(self, namespace: str) -> Sequence[Object]:
        """Those of a namespace."""
        return (await self._client.list(rules.RULES, namespace)).items[:MOST_RULES]

    async def endpoint(self, namespace: str, name: str) -> Object:
        """The RuleEndpoint of that name. Raises ObjectNotFound."""
        return await self._client.get(rules.RULEENDPOINTS, namespace, name)

    async def count(self, namespace: str, name: str, change: Callable[[Object], Object]) -> None:
        """Write the status that `change` gives a Rule. Raises ObjectNotFound."""
        for attempt in range(_ATTEMPTS):
            old = await self._client.get(rules.RULES, namespace, name)
            version = meta.metadata(old).get("resourceVersion")
            body = {"metadata": {"resourceVersion": version}, "status": change(old).get("status")}
            try:
                await self._client.merge_patch(rules.RULES, namespace, name, body, subresource="status")
                return
            except Conflict:
                if attempt == _ATTEMPTS - 1:
                    raise
