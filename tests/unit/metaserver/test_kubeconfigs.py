"""A kubeconfig that was revoked opens the node's own API no more, also while the node is away from its cloud. Real TLS, no cloud."""

from __future__ import annotations

import asyncio
import http.client
import json
import ssl
import time
from collections.abc import Callable
from pathlib import Path

from kubeedge.api import keys
from kubeedge.metaserver.module import MetaServer, MetaServerSettings
from kubeedge.store.model import Store
from kubeedge.store.sqlite import open_sqlite
from tests.kit.certs import Credentials, TestAuthority

KEY = keys.desired("kubeconfigs", "", "valid")
USER = "spiffe://kubeedge/tenant/default/user/ann"
SECRETS = "/api/v1/namespaces/default/secrets"


async def until(happened: Callable[[], bool]) -> None:
    while not happened():
        await asyncio.sleep(0.01)


async def nothing(*_: object) -> None:
    raise AssertionError("no stream of the node is asked for")


class Site:
    def __init__(self, directory: Path, store: Store) -> None:
        authority = TestAuthority(directory)
        self.users = {
            id: authority.issue("ann", uri=f"{USER}/kubeconfig/{id}" if id else USER, file=f"user-{id}")
            for id in ("lost", "kept", "")
        }
        settings = MetaServerSettings(
            tenant="default",
            node="edge1",
            directory=directory / "metaserver",
            kubeconfig=directory / "kubeconfig",
            ca=authority.ca,
            port=0,
        )
        self.store, self.directory = store, directory
        self.server = MetaServer(store, settings, nothing, wall=time.time)  # type: ignore[arg-type]

    def connect(self, who: Credentials | None) -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cafile=str(self.directory / "metaserver" / "server.crt"))
        if who is not None:
            context.load_cert_chain(who.cert, who.key)
        return http.client.HTTPSConnection("127.0.0.1", self.server.bound_port, timeout=20, context=context)

    async def status(self, id: str | None, path: str = SECRETS) -> int:
        """None: with the node's token instead of a certificate."""

        def ask() -> int:
            connection = self.connect(self.users[id] if id is not None else None)
            token = (self.directory / "metaserver" / "token").read_text()
            connection.request("GET", path, headers={} if id is not None else {"authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            answer.read()
            connection.close()
            return answer.status

        return await asyncio.to_thread(ask)

    async def allow(self, *ids: str) -> None:
        await self.store.put(KEY, json.dumps({"valid": list(ids)}).encode())


def test_what_the_cloud_revoked_opens_nothing_here(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = await open_sqlite(tmp_path / "edge.db")
        site = Site(tmp_path, store)
        ready = asyncio.Event()
        serving = asyncio.create_task(site.server.run(ready))
        try:
            async with asyncio.timeout(60):
                await ready.wait()
                assert [await site.status(id) for id in ("lost", "kept", "", None)] == [200] * 4, "no list, no choice"
                await site.allow("", "lost", "kept")
                watch = await asyncio.to_thread(watching, site, "lost")
                await until(lambda: site.server.open_watches() == 1)
                await site.allow("kept")
                assert [await site.status(id) for id in ("lost", "kept", "", None)] == [401, 200, 401, 200]
                assert await asyncio.to_thread(ended, watch), "its open watch ends as well"
                await store.put(KEY, b"no list")
                assert [await site.status(id) for id in ("kept", None)] == [401, 200]
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            await store.close()

    asyncio.run(scenario())


def watching(site: Site, id: str) -> http.client.HTTPSConnection:
    connection = site.connect(site.users[id])
    connection.request("GET", f"{SECRETS}?watch=1&allowWatchBookmarks=true&sendInitialEvents=true")
    return connection


def ended(connection: http.client.HTTPSConnection) -> bool:
    """Reads the watch to its end; it times out when that does not come."""
    answer = connection.getresponse()
    assert answer.status == 200 and b"BOOKMARK" in answer.readline()
    try:
        while answer.readline():
            pass
    except TimeoutError:
        return False
    except (OSError, http.client.HTTPException):
        pass
    finally:
        answer.close()
        connection.close()
    return True
