"""Clients of the API that ask and do not read the answer.

    python -m tests.kit.unread '{"host": "203.0.113.1", "port": 6443, "kubeconfig": "...", "target": "/api/v1/configmaps?watch=1", "count": 150}'

Says "held" once all have asked. For each further line of standard input the answer is how many of the connections are open still; at
the end of it all are closed.
"""

from __future__ import annotations

import base64
import json
import select
import socket
import ssl
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml


def context(kubeconfig: Path) -> ssl.SSLContext:
    config = yaml.safe_load(kubeconfig.read_text())
    user, cluster = config["users"][0]["user"], config["clusters"][0]["cluster"]
    found = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    with tempfile.NamedTemporaryFile() as pair:
        for part in ("client-certificate-data", "client-key-data"):
            pair.write(base64.b64decode(user[part]))
        pair.flush()
        found.load_cert_chain(pair.name)
    return found


def ask(tls: ssl.SSLContext, host: str, port: int, target: str) -> ssl.SSLSocket:
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    plain.settimeout(20)
    plain.connect((host, port))
    connection = tls.wrap_socket(plain, server_hostname=host)
    connection.sendall(f"GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
    return connection


def is_open(connection: socket.socket) -> bool:
    """The server cuts with a reset, which polling shows though nothing is read."""
    poll = select.poll()
    poll.register(connection, 0)
    return not poll.poll(0)


def main(config: dict[str, Any]) -> None:
    tls = context(Path(config["kubeconfig"]))
    held = [ask(tls, config["host"], config["port"], config["target"]) for _ in range(config["count"])]
    print("held", flush=True)
    for _ in sys.stdin:
        print(sum(map(is_open, held)), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
