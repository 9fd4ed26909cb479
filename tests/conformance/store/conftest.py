"""One suite, every store. A store that fails here is wrong; a case that etcd itself fails is wrong, too."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from kubeedge.store.memory import MemoryStore
from kubeedge.store.model import Store
from kubeedge.store.sqlite import open_sqlite
from tests.conformance.store.relative import RelativeStore
from tests.kit.etcd import EtcdCluster

StoreFactory = Callable[[], AbstractAsyncContextManager[Store]]
_serial = itertools.count(1)


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    """One member for the whole run; each test has a namespace of its own in it."""
    with EtcdCluster(tmp_path_factory.mktemp("etcd")) as cluster:
        yield cluster


@pytest.fixture(params=["memory", "sqlite", "etcd"])
def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> StoreFactory:
    """Gives an empty store that is closed at the end of the `async with`."""
    cluster: EtcdCluster | None = request.getfixturevalue("etcd") if request.param == "etcd" else None

    @asynccontextmanager
    async def factory() -> AsyncIterator[Store]:
        store: Store
        if cluster is not None:
            from kubeedge_cloud.etcd.store import open_etcd

            store = RelativeStore(await open_etcd(cluster.settings(namespace=f"/test{next(_serial)}")))
        elif request.param == "memory":
            store = MemoryStore()
        else:
            store = await open_sqlite(tmp_path / "store.db")
        try:
            yield store
        finally:
            await store.close()

    return factory
