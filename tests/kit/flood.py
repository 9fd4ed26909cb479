"""Connections that are opened, held, and opened again when they are closed, from many source addresses.

    python -m tests.kit.flood '{"targets": [["203.0.113.1", 10000]], "sources": ["198.51.100.1"], "count": 1200, "says": "1603"}'

Says "held" in a line once all are open or were opened; goes on until its standard input ends, and then tells how many it opened and how many
were open at the same time at most, and then. "left" is how many of those with TLS stay open when no more come. `tls`: {"ca", "cert", "key"} for connections that shake hands and ask for /api/v1/pods.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import resource
import select
import selectors
import socket
import ssl
import sys
from typing import Any


class Flood:
    def __init__(self, config: dict[str, Any]) -> None:
        self.sources = itertools.cycle(config["sources"])
        self.targets = itertools.cycle([tuple(t) for t in config["targets"]])
        self.count = config["count"]
        self.says = bytes.fromhex(config.get("says", ""))
        self.tls = None
        if tls := config.get("tls"):
            self.tls = ssl.create_default_context(cafile=tls["ca"])
            self.tls.load_cert_chain(tls["cert"], tls["key"])
        self.selector = selectors.DefaultSelector()
        self.opened = self.most = 0

    @property
    def held(self) -> int:
        return len(self.selector.get_map())

    def open(self) -> None:
        host, port = next(self.targets)
        connection = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.opened += 1
        try:
            connection.bind((next(self.sources), 0))
            if self.tls is not None:
                connection.settimeout(5)
                connection.connect((host, port))
                connection = self.tls.wrap_socket(connection, server_hostname=host)
                connection.sendall(b"GET /api/v1/pods HTTP/1.1\r\nhost: x\r\n\r\n")
            connection.setblocking(False)
            if self.tls is None:
                with contextlib.suppress(BlockingIOError):
                    connection.connect((host, port))
            self.selector.register(connection, selectors.EVENT_READ | (selectors.EVENT_WRITE if self.says else 0))
        except OSError as exc:
            connection.close()
            if exc.errno in (errno.EMFILE, errno.EADDRNOTAVAIL):
                raise

    def look(self, seconds: float) -> None:
        for key, events in self.selector.select(seconds):
            connection = key.fileobj
            assert isinstance(connection, socket.socket)
            try:
                if events & selectors.EVENT_WRITE:
                    connection.send(self.says)
                    self.selector.modify(connection, selectors.EVENT_READ)
                if events & selectors.EVENT_READ and not connection.recv(4096):
                    raise ConnectionResetError
            except (BlockingIOError, ssl.SSLWantReadError):
                pass
            except OSError:
                self.selector.unregister(connection)
                connection.close()

    def run(self) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
        said = False
        while not select.select([sys.stdin], [], [], 0)[0]:
            for _ in range(min(50, self.count - self.held)):
                self.open()
            self.look(0.02)
            self.most = max(self.most, self.held)
            if not said and self.opened >= self.count:
                said = True
                print("held", flush=True)
        told = {"opened": self.opened, "most": self.most, "held": self.held}
        print(json.dumps({**told, "left": self.left()}), flush=True)

    def left(self) -> int:
        """How many are open when the server has answered what was on its way, and no answer has come for some seconds."""
        while self.tls is not None and self.selector.select(5.0):
            self.look(0)
        return self.held


if __name__ == "__main__":
    Flood(json.loads(sys.argv[1])).run()
