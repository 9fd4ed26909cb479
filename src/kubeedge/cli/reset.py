"""`kubeedge reset`: undo join on this machine. Touches what join and the agent made below their own paths, and nothing else."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path

from kubeedge.cli.control import CommandError, call
from kubeedge.config import edge
from kubeedge.errors import Invalid


def run(options: argparse.Namespace) -> int:
    root = Path(options.root_dir)
    paths = edge.at_root(root)
    config = paths.pki.parent / "kubeedge.yaml"
    if config.exists():
        try:
            paths = edge.load(config).paths
        except Invalid as exc:
            print(f"warning: {exc}; using the default paths", file=sys.stderr)
    if not options.force and sys.stdin.isatty():
        answer = input(f"This removes the node's pods, state and credentials below {root}. Type 'yes' to go on: ")
        if answer.strip() != "yes":
            print("nothing was changed")
            return 1
    socket = paths.run / "edge.sock"
    try:
        call(str(socket), "POST", "/v1/stop", {"pods": True})
        _wait_for_end(socket)
    except CommandError:
        pass  # it does not run
    removed = [p for p in (paths.pki.parent / "node.json", config) if p.exists()]
    for path in removed:
        path.unlink()
    for directory in (paths.pki, paths.state):
        if directory.exists():
            shutil.rmtree(directory)
            removed.append(directory)
    print("\n".join(f"removed {p}" for p in removed) if removed else "there was nothing to remove")
    return 0


def _wait_for_end(socket: Path) -> None:
    deadline = time.monotonic() + 60
    while socket.exists():
        if time.monotonic() > deadline:
            raise CommandError("the agent does not stop", "end it by hand, then run `kubeedge reset` again")
        time.sleep(0.1)
