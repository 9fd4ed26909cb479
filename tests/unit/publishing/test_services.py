"""Services of the cloud for the nodes, and what /metrics says of publishing."""

from __future__ import annotations

import asyncio
import json
import socket

from kubeedge.api.names import TenantId
from kubeedge.kit.http1 import Connection, close_writer
from kubeedge.kit.metrics import exposition
from kubeedge.kit.tasks import TaskSet
from kubeedge.kubebus.http.accounts import Accounts
from kubeedge_cloud.publishing import observe
from kubeedge_cloud.publishing.services import CloudServices
from tests.unit.kubebus_http.test_publishing import mirror

NUMBERS = {"red": 1, "blue": 2}


async def number_of(tenant: TenantId) -> int | None:
    return NUMBERS.get(tenant)


def test_a_service_of_the_cloud_exists_for_the_tenants_that_may_use_it() -> None:
    async def run() -> None:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await mirror(reader, writer)

        async with TaskSet("world") as tasks, await asyncio.start_server(connected, "127.0.0.1", 0) as backend:
            port = backend.sockets[0].getsockname()[1]
            services = CloudServices(
                [
                    f"all=127.0.0.1:{port}",
                    "red/some=127.0.0.1:1",  # of two that fit the first one counts
                    f"gone/some=127.0.0.1:{port}",
                    f"blue/some=127.0.0.1:{port}",
                    "dead=127.0.0.1:1",
                    f"blue/own=127.0.0.1:{port}",
                ],
                number_of,
            )

            async def ask(number: int, path: str) -> tuple[int, dict[str, str]]:
                ours, theirs = socket.socketpair()
                tasks.start(services.for_tenant(number)(*await asyncio.open_connection(sock=theirs)), "cloud")
                client = Connection(*await asyncio.open_connection(sock=ours))
                answer = await client.request("GET", path)
                found = json.loads(await answer.read(10_000))
                await close_writer(client.writer)
                return answer.status, found

            status, seen = await ask(2, "/all/a?b")
            assert (status, seen["target"]) == (200, "/a?b")
            assert [(await ask(number, "/some/"))[0] for number in (1, 2)] == [502, 200]
            assert (await ask(2, "/own/"))[0] == 200
            absent = await ask(1, "/none/")
            assert absent == (404, {"error": "the cloud has no web service none", "service": "none"})
            status, said = await ask(1, "/own/")
            assert (status, json.dumps(said).replace("own", "none")) == (404, json.dumps(absent[1]))
            status, said = await ask(1, "/dead/")
            assert status == 502 and "web service dead at 127.0.0.1:1 refuses connections" in said["error"]

    asyncio.run(run())


def test_metrics_have_a_label_for_tenants_that_exist_and_for_nobody_else() -> None:
    accounts = Accounts()
    red = accounts.exists("red")
    red.answers[2] = 7
    red.bytes_out = 100
    accounts.of("invented").answers[4] += 1
    text = exposition(observe.families(accounts.all(), {"red": 2, "invented": 1}, {503: 4}))
    for line in (
        'kubeedge_publishing_requests_total{tenant="red",code="2xx"} 7',
        'kubeedge_publishing_requests_total{tenant="",code="4xx"} 1',
        'kubeedge_publishing_bytes_total{tenant="red",direction="out"} 100',
        'kubeedge_publishing_in_progress{tenant="red"} 2',
        'kubeedge_publishing_in_progress{tenant=""} 1',
        'kubeedge_publishing_connections_refused_total{code="503"} 4',
        'kubeedge_publishing_connections_refused_total{code="429"} 0',
    ):
        assert f"{line}\n" in text
    assert "invented" not in text
