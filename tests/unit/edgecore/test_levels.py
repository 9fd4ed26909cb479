"""In which order the modules of the agent start."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from kubeedge import edgecore
from kubeedge.config.edge import EdgeConfig, EdgeModules, MetaServerConfig, MetricsConfig, NodeCredentials, at_root
from kubeedge.store.sqlite import open_sqlite

OWN = NodeCredentials(
    tenant="default", node="edge7", number=7, address="100.64.0.7/16", pod_cidr="10.244.7.0/24",
    hub=("cloud:1",), relays=("cloud:2",), bootstrap=("cloud:3",),
)  # fmt: skip


def shown(module_text: str) -> list[str]:
    """The names in the picture at the head of the file, without what is in parentheses."""
    lines = [line for line in module_text.splitlines() if line.startswith("    ")]
    return re.findall(r"\w+", re.sub(r"\([^)]*\)", "", "\n".join(lines)))


def test_modules_start_in_the_order_that_the_head_of_the_file_shows(tmp_path: Path) -> None:
    """The store first, then what needs no cloud, the channel last."""
    config = EdgeConfig(
        paths=at_root(tmp_path),
        modules=EdgeModules(metaserver=MetaServerConfig(enable=True)),
        metrics=MetricsConfig(listen="127.0.0.1:10081"),
    )

    async def started() -> list[str]:
        config.paths.state.mkdir(parents=True)
        store = await open_sqlite(config.paths.state / "edge.db")
        try:
            return [module.name for module in edgecore.Agent(config, OWN, store).supervisor.states()]
        finally:
            await store.close()

    assert ["store", *asyncio.run(started())] == shown(edgecore.__doc__ or "")
