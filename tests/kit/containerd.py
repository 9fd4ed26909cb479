"""containerd on a host of the tests, with a state of its own: nothing of the machine's is used or touched."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from tests.kit import images
from tests.kit.topology import Host, until
from tests.kit.upstream import build

SOCKET = Path("/run/containerd/containerd.sock")  # on the host: its /run is its own
NETWORKS = Path("/run/containerd/net.d")
PAUSE = "local.test/pause:1"
_DEBIAN = Path(__file__).parents[2] / "build/debian/usr/bin"

_CONFIG = """version = 2
root = "{root}/root"
state = "/run/containerd/state"
[grpc]
  address = "{socket}"
[plugins]
  [plugins."io.containerd.internal.v1.opt"]
    path = "{root}/opt"
  [plugins."io.containerd.grpc.v1.cri"]
    sandbox_image = "{pause}"
    restrict_oom_score_adj = true
    disable_apparmor = true
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
      conf_dir = "{networks}"
"""


def debian() -> Path:
    """The directory of Debian's programs. The test fails without them."""
    assert (_DEBIAN / "containerd").exists(), "make setup unpacks it"
    return _DEBIAN


def newest(directory: Path) -> Path:
    """`directory` with the programs of containerd 2, built from its Go module."""
    directory.mkdir(parents=True)
    for name in ("containerd", "containerd-shim-runc-v2", "ctr"):
        (directory / name).symlink_to(build.program(name))
    return directory


def pids() -> list[int]:
    """Of containerd in this PID namespace."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            words = (directory / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if Path(words[0].decode(errors="replace")).name == "containerd":
            found.append(int(directory.name))
    return found


def start(host: Host, root: Path, programs: Path | None = None) -> None:
    """Until it serves its socket; `root` is removed by the caller. `programs`: the directory of another release than Debian's."""
    programs = programs or debian()
    root.mkdir(parents=True, exist_ok=True)
    config = root / "config.toml"
    config.write_text(_CONFIG.format(root=root, socket=SOCKET, pause=PAUSE, networks=NETWORKS))
    host.run("mkdir", "-p", str(NETWORKS))
    run(host, root, programs)
    spec = importlib.util.find_spec("kubeedge._fastpath.pause")
    assert spec is not None and spec.origin is not None
    archive = images.build(
        root / "pause.tar", PAUSE, programs={"pause": Path(spec.origin).read_bytes()}, config={"Entrypoint": ["/pause"], "Cmd": []}
    )  # fmt: skip
    host.run(str(programs / "ctr"), "-a", str(SOCKET), "-n", "k8s.io", "images", "import", str(archive))


def run(host: Host, root: Path, programs: Path) -> None:
    """Again, after it was ended. It looks for its shim in PATH."""
    path = f"{programs}:{os.environ['PATH']}"
    program, config = str(programs / "containerd"), str(root / "config.toml")
    host.spawn(program, "-c", config, log=root / "containerd.log", env={"PATH": path})
    until(
        lambda: host.run(str(programs / "ctr"), "-a", str(SOCKET), "version", check=False).count("Revision") == 2,
        what="containerd",
    )  # fmt: skip
