"""AppEngine alone on one host, for tests: a real store, a real runtime, no cloud.

    python -m tests.kit.engine_host '{"root": ..., "cgroup": ...}'

"pod_cidr": another one than 10.244.1.0/24; "address": another one than 100.64.0.1; "kubelet": {"port": ..., "cert": ..., "key": ..., "ca": ...}: its kubelet API over TLS.

"held": KEY: the deletion of that key waits for {"release": true}, and says {"held": KEY}.

stdin, one JSON a line: {"put": key, "value": object} {"delete": key} {"logs": [ns, pod, container]}
    {"desired": true}: says {"desired": [NAME]}, the pods that the engine wants to run
stdout, one JSON a line: {"ready": true}, {"key": key, "value": object or null} for each change below /reported/, {"logs": text}
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from pathlib import Path
from typing import Any

from kubeedge.api import keys
from kubeedge.appengine import logs
from kubeedge.appengine.images.service import EmbeddedImages
from kubeedge.appengine.images.store import ImageStore
from kubeedge.appengine.module import AppEngine, AppEngineSettings
from kubeedge.appengine.runtime.embedded import EmbeddedRuntime
from kubeedge.appengine.runtime.settings import EmbeddedSettings
from kubeedge.appengine.server import KubeletServer
from kubeedge.conditions.module import ConditionReporter
from kubeedge.pki import trust
from kubeedge.store.model import ChangeKind, Store
from kubeedge.store.sqlite import open_sqlite


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


class HeldDeletions:
    """A store that is slow in one thing: to delete `key`."""

    def __init__(self, store: Store, key: str) -> None:
        self._store, self._key = store, key
        self.released = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def delete(self, key: str, end: str = "") -> int:
        if key == self._key and not self.released.is_set():
            say(held=key)
            await self.released.wait()
        return await self._store.delete(key, end)


async def main(config: dict[str, Any]) -> None:
    root = Path(config["root"])
    state, run = root / "state", root / "run"
    state.mkdir(parents=True, exist_ok=True)
    store = await open_sqlite(state / "edge.db")
    images = EmbeddedImages(ImageStore(state / "images"))
    runtime = EmbeddedRuntime(
        EmbeddedSettings(
            root=state, run=run, node="edge1", pod_cidrs=(config.get("pod_cidr", "10.244.1.0/24"),), cgroup_prefix=config["cgroup"],
            cni_bin_dirs=("/usr/lib/cni",),
        ),
        images,
    )  # fmt: skip
    settings = AppEngineSettings(
        node="edge1",
        address=f"{config.get('address', '100.64.0.1')}/16",
        state=state,
        logs=root / "logs",
        kubelet=Path(config["plugins"]) if "plugins" in config else None,
    )
    held = HeldDeletions(store, config.get("held", ""))
    kept: Any = held
    engine = AppEngine(kept, settings, runtime)
    ready = asyncio.Event()
    running = asyncio.create_task(engine.run(ready))

    async def report() -> None:
        async for batch in store.watch(keys.REPORTED, after=store.compacted):
            for c in batch.changes:
                say(key=c.key, value=None if c.kind is ChangeKind.DELETE else json.loads(c.value))

    reporting = asyncio.create_task(report())
    conditions = ConditionReporter(store, bus=None, runtime=engine.not_ready)
    telling = asyncio.create_task(conditions.run(asyncio.Event()))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        running.result()
    if kubelet := config.get("kubelet"):
        context = trust.server_context(
            Path(kubelet["cert"]), Path(kubelet["key"]), client_ca=Path(kubelet["ca"]), minimum=ssl.TLSVersion.TLSv1_2
        )
        await asyncio.start_server(KubeletServer(engine).handle, "0.0.0.0", kubelet["port"], ssl=context)
    say(ready=True, runtime=runtime.version)
    commands = asyncio.StreamReader(1 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        command = json.loads(line)
        if "put" in command:
            await store.put(command["put"], json.dumps(command["value"]).encode())
        elif "delete" in command:
            await store.delete(command["delete"])
        elif "release" in command:
            held.released.set()
        elif "desired" in command:
            say(desired=[worker.name for worker in engine.workers if worker.desired is not None])
        elif "image" in command:
            say(image=await engine.import_image(command["image"], []))
        elif "logs" in command:
            found = engine.find_log(*command["logs"], previous=command.get("previous", False))
            if isinstance(found, str):
                say(logs=found)
            else:
                text = b"".join([part async for part in logs.read(found[0], logs.LogOptions(), lambda: False)])
                say(logs=text.decode())
    for task in (running, reporting, telling):
        task.cancel()
    await asyncio.gather(running, reporting, telling, return_exceptions=True)
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
