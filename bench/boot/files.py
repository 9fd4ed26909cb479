"""python -m bench.boot.files DIRECTORY: its files on a port of the loopback, whole or from any byte on. Prints its address."""

from __future__ import annotations

import http.server
import sys
from pathlib import Path


class Files(http.server.BaseHTTPRequestHandler):
    """Those of `directory`."""

    directory = Path()

    def do_GET(self) -> None:
        """`range: bytes=N-`, and no other ranges."""
        path = self.directory / Path(self.path).name
        if not path.is_file():
            self.send_error(404)
            return
        size = path.stat().st_size
        first = int((self.headers["range"] or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        self.send_response(206)
        self.send_header("content-length", str(max(0, size - first)))
        self.send_header("content-range", f"bytes {first}-{size - 1}/{size}")
        self.end_headers()
        with path.open("rb") as file:
            file.seek(first)
            while data := file.read(65536):
                self.wfile.write(data)


def main() -> None:
    """Serves until it is killed."""
    Files.directory = Path(sys.argv[1])
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files) as server:
        print(f"listening {server.server_address[1]}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
