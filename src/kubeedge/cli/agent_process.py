"""From `kubeedge edge` to the agent: the same process, with an image of Python that has read neither YAML nor a command line.

What reading needs (argparse, yaml) is 1.4 MB that would stay with the agent for its life, in holes that nothing else fits into. The command checks
the configuration, says what is wrong with it, and execs; the checked configuration goes along as JSON in a memfd. The command line stays the
same, for ps(1) and whoever looks for it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from importlib.util import cache_from_source
from pathlib import Path
from typing import NoReturn

import kubeedge
from kubeedge.cli.errors import tell
from kubeedge.config import node_credentials
from kubeedge.config.edge import EdgeConfig
from kubeedge.config.load import as_document, build

HANDED = "KUBEEDGE_AGENT"  # in the environment: the number of the descriptor


def become(config: EdgeConfig, credentials: Path, words: Sequence[str]) -> NoReturn:
    """Does not return. `words`: of its command line, behind `kubeedge`. Raises OSError."""
    document = {"config": as_document(config), "credentials": str(credentials)}
    fd = os.memfd_create("kubeedge edge")
    os.write(fd, json.dumps(document).encode())
    os.lseek(fd, 0, os.SEEK_SET)
    os.set_inheritable(fd, True)
    os.environ[HANDED] = str(fd)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *_flags(), "-m", "kubeedge", *words])


def _flags() -> list[str]:
    """Without docstrings, where an image brings bytecode that has none: compiling it at each start would cost more than it saves."""
    edgecore = Path(kubeedge.__file__).with_name("edgecore.py")
    return ["-OO"] if Path(cache_from_source(str(edgecore), optimization="2")).exists() else []


def main(handed: str) -> int:
    """The agent, until it ends; its exit status. `handed`: the descriptor's number."""
    with open(int(handed), "rb") as file:
        document = json.load(file)
    try:
        config = build(EdgeConfig, document["config"])
        credentials = node_credentials.load_credentials(Path(document["credentials"]))
        from kubeedge import edgecore

        return edgecore.main(config, credentials)
    except Exception as exc:
        return tell(exc, "kubeedge edge")
