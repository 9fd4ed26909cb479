"""python -m bench.boot.registry PROGRAM ARCHITECTURE: a registry on the loopback of a host, with one image, app:1, of busybox (PROGRAM).

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
    with serving(registry) as address:
        print(f"listening {address}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
