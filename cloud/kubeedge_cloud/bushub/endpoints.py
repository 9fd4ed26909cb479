"""L4 of this relay in each tenant: connections to nodes, and the services of the cloud for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kubeedge.api.names import L4Port, TenantNumber
from kubeedge.kit.streams import ConnectionHandler
from kubeedge.kit.tasks import TaskSet
from kubeedge.kubebus import ping
from kubeedge.kubebus.l3.plane import Plane
from kubeedge.kubebus.l4.driver import PACE, L4Endpoint


class Endpoints:
    """`services`: by L4 port, what makes the handler of a tenant from its number. `tasks` are those of the relay."""

    def __init__(
        self, plane: Plane, services: Mapping[L4Port, Callable[[TenantNumber], ConnectionHandler]], tasks: TaskSet
    ) -> None:
        self._plane = plane
        self._services = services
        self._tasks = tasks
        self._endpoints: dict[TenantNumber, L4Endpoint] = {}  # by tenant number

    def of(self, tenant: TenantNumber) -> L4Endpoint:
        """Finds or makes that of a tenant number."""
        endpoint = self._endpoints.get(tenant)
        if endpoint is None:
            endpoint = self._endpoints[tenant] = L4Endpoint(core=self._plane.l4(tenant, pace=PACE))
            self._tasks.start(endpoint.listen(ping.PORT, ping.echo, per_node=ping.PER_NODE), "ping of the relay")
            for port, make in self._services.items():
                self._tasks.start(endpoint.listen(port, make(tenant)), "a service of the cloud")
        return endpoint

    async def close(self) -> None:
        """Ends every L4 connection of every tenant."""
        for endpoint in self._endpoints.values():
            await endpoint.close()
        self._endpoints.clear()
