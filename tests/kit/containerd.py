"""containerd on a host of the tests, with a state of its own: nothing of the machine's is used or touched."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from tests.kit import images
from tests.kit.topology import Host, until

SOCKET = Path("/run/containerd/containerd.sock")  # on the host: its /run is its own
NETWORKS = Path("/run/containerd/net.d")
PAUSE = "local.test/pause:1"

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


def program() -> str:
    """Debian's. The test fails without it."""
    found = shutil.which("containerd")
    assert found, "apt-get install containerd"
    return found


def start(host: Host, root: Path) -> None:
    """Until it serves its socket; `root` is short, and removed by the caller."""
    root.mkdir(parents=True, exist_ok=True)
    config = root / "config.toml"
    config.write_text(_CONFIG.format(root=root, socket=SOCKET, pause=PAUSE, networks=NETWORKS))
    host.run("mkdir", "-p", str(NETWORKS))
    run(host, root)
    spec = importlib.util.find_spec("kubeedge._fastpath.pause")
    assert spec is not None and spec.origin is not None
    archive = images.build(
        root / "pause.tar", PAUSE, programs={"pause": Path(spec.origin).read_bytes()}, config={"Entrypoint": ["/pause"], "Cmd": []}
    )  # fmt: skip
    host.run("ctr", "-a", str(SOCKET), "-n", "k8s.io", "images", "import", str(archive))


def run(host: Host, root: Path) -> None:
    """Again, after it was ended."""
    host.spawn(program(), "-c", str(root / "config.toml"), log=root / "containerd.log")
    until(
        lambda: host.run("ctr", "-a", str(SOCKET), "version", check=False).count("Revision") == 2,
        timeout=30, what="containerd",
    )  # fmt: skip
