"""What REST endpoints answer, on its way back to the programs of nodes that asked for it at their ServiceBus.

    POST /answers/ID        x-kubeedge-status: 200            to the port of the node that the cloud alone reaches

A program waits for seconds: an answer is sent once, beside the rule, and is nobody's when the node is not there or has too many already.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

from kubeedge.api import rules
from kubeedge.api.names import NodeName, TenantId
from kubeedge.apiserver.logs import NodeStream
from kubeedge.errors import KubeEdgeError
from kubeedge.kit.http1 import Connection
from kubeedge.kit.tasks import TaskSet
from kubeedge_cloud.rules.delivery import EndpointAnswer

log = logging.getLogger("kubeedge.rules")

_SECONDS = 10.0  # for one answer, with the way to the node
_OF_NODE, _OF_TENANT = 4, 16  # that are on their way


class NodeAnswers:
    """Of one tenant. `node_stream` connects to a node; None: nothing goes back."""

    def __init__(self, tenant: TenantId, node_stream: NodeStream | None) -> None:
        self._tenant, self._node_stream = tenant, node_stream
        self._open: Counter[NodeName] = Counter()
        self.left_out = 0  # since the start

    def send(self, tasks: TaskSet, node: NodeName, ask: str, answer: EndpointAnswer) -> None:
        """Begins to send it, as one of `tasks`. `ask`: what the program's request is called; "": it waits for nothing."""
        if not ask or self._node_stream is None:
            return
        if self._open[node] >= _OF_NODE or self._open.total() >= _OF_TENANT:
            self.left_out += 1
            return
        self._open[node] += 1
        tasks.start(self._sent(self._node_stream, node, ask, answer), f"answer for node {node}")

    async def _sent(self, node_stream: NodeStream, node: NodeName, ask: str, answer: EndpointAnswer) -> None:
        try:
            async with asyncio.timeout(_SECONDS):
                connection = Connection(*await node_stream(self._tenant, node))
                try:
                    headers = [("host", node), (rules.STATUS, str(answer.status))]
                    await (await connection.request("POST", f"/answers/{ask}", headers, answer.body)).read(1024)
                finally:
                    connection.abort()
        except (OSError, EOFError, KubeEdgeError) as exc:
            log.info(
                "tenant=%s node=%s does not get an answer: %s", self._tenant, node, str(exc) or "no answer in time"
            )
        finally:
            self._open[node] -= 1
            if not self._open[node]:
                del self._open[node]
