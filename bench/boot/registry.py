"""python -m bench.boot.registry PROGRAM ARCHITECTURE [DIRECTORY]: a registry on the loopback of a host, with an image of busybox (PROGRAM), app:1, and
another one, app:tools, with what is in the directory beside it.

Prints its address, then each path that is asked for.
"""

from __future__ import annotations

import http.server
import sys
import threading
from pathlib import Path

from tests.kit import layers
from tests.kit.registry_server import Registry, serving

_APPLETS = ("sh", "sleep", "cat", "echo")


class _Telling(Registry):
    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        print(handler.path, flush=True)
        super().answer(handler)


def main() -> None:
    """Serves until it is killed."""
    program = layers.entry("bin/busybox", Path(sys.argv[1]).read_bytes(), mode=0o755)
    entries = [layers.directory("bin"), program, *(layers.link(f"bin/{name}", "busybox") for name in _APPLETS)]
    config = {"Cmd": ["sh"], "Env": ["PATH=/bin"]}
    registry = _Telling()
    registry.put("1", layers.Image(layers.layer(*entries), config=config, architecture=sys.argv[2]))
    if len(sys.argv) > 3:
        directory = Path(sys.argv[3])
        files = [
            (path.relative_to(directory), path.read_bytes()) for path in sorted(directory.rglob("*")) if path.is_file()
        ]
        tools = [layers.directory("lib"), *(layers.entry(str(name), data, mode=0o755) for name, data in files)]
        registry.put("tools", layers.Image(layers.layer(*entries, *tools), config=config, architecture=sys.argv[2]))
    with serving(registry) as address:
        print(f"listening {address}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
