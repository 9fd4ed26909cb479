"""One suite, every store. A store that fails here is wrong; a case that etcd itself fails is wrong, too."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from kubeedge.store.memory import MemoryStore
from kubeedge.store.model import Store
from kubeedge.store.sqlite import open_sqlite

StoreFactory = Callable[[], AbstractAsyncContextManager[Store]]


@pytest.fixture(params=["memory", "sqlite"])
def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> StoreFactory:
    """Gives an empty store that is closed at the end of the `async with`."""

    @asynccontextmanager
    async def factory() -> AsyncIterator[Store]:
        store: Store = MemoryStore() if request.param == "memory" else await open_sqlite(tmp_path / "store.db")
        try:
            yield store
        finally:
            await store.close()

    return factory
