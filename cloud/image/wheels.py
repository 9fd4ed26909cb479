"""The layer above the base: both distributions with all that they depend on, compiled, and the program that starts them."""

from __future__ import annotations

import os
import subprocess
import sys
from email.parser import HeaderParser
from pathlib import Path

from cloud.image.debian import PYTHON
from cloud.image.tree import Tree

_PACKAGES = f"usr/local/lib/{PYTHON}/dist-packages"  # Debian's Python looks there for what is not Debian's
_LEFT_OUT = {"tests", "test"}
#: of the package kubernetes, of which we need kubeconfigs and streams
_UNUSED = {("kubernetes", "aio")}
#: VFS_CAP_REVISION_2 with cap_net_admin (12) permitted and effective: capability.h of Linux
_NET_ADMIN = (0x02000001).to_bytes(4, "little") + (1 << 12).to_bytes(4, "little") + bytes(12)
_PROGRAM = """#!{python}
import sys

from kubeedge.cli.main import main

sys.exit(main())
"""


def install(dist: Path, work: Path, python: str, *, with_cloud: bool = True) -> Path:
    """What pip makes of the wheels in `dist`, of those that etcd and clusters need (without the cloud's: that a broker of somebody else's needs),
    and of nothing else. Raises subprocess.CalledProcessError."""
    target = work / "site"
    if target.exists():
        subprocess.run(["rm", "-r", "--", str(target)], check=True)
    edge = str(next(dist.glob("kubeedge-*.whl")))
    wanted = (
        [f"{next(dist.glob('kubeedge_cloud-*.whl'))}[etcd,kubernetes]", edge] if with_cloud else [f"{edge}[broker]"]
    )
    subprocess.run(
        [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-compile", "--target", str(target),
         "--find-links", str(dist), "--only-binary", ":all:", *wanted],
        check=True,
    )  # fmt: skip
    return target


def compile_all(site: Path) -> None:
    """Beside the sources, for a root file system that is read only; the same sources give the same bytes."""
    subprocess.run(
        [sys.executable, "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash", "-s", str(site), "-p", f"/{_PACKAGES}",
         str(site)],
        check=True, env={**os.environ, "PYTHONHASHSEED": "0"},
    )  # fmt: skip


def layer(site: Path, base: Tree, *, net_admin: bool = True) -> Tree:
    """The files of `site`, and the program under the names kubeedge and keadm; `base` has the Python. `net_admin`: also one that may make a TUN."""
    tree = Tree()
    for path in sorted(site.rglob("*")):
        relative = path.relative_to(site)
        if path.is_dir() or relative.parts[0] == "bin" or set(relative.parts[:-1]) & _LEFT_OUT:
            continue
        if relative.parts[:2] in _UNUSED:
            continue
        if relative.name in ("RECORD", "direct_url.json", "REQUESTED", "INSTALLER") or relative.suffix in (
            ".c",
            ".pyx",
            ".pxd",
        ):
            continue
        tree.file(f"{_PACKAGES}/{relative}", path.read_bytes(), 0o755 if path.suffix == ".so" else 0o644)
    tree.file("usr/bin/kubeedge", _PROGRAM.format(python=f"/usr/bin/{PYTHON} -I").encode(), 0o755)
    tree.link("usr/bin/keadm", "kubeedge")
    if not net_admin:
        return tree
    # a file capability belongs to a file: what has the right to make a TUN is another program than what has not
    python = base.entries[f"usr/bin/{PYTHON}"].data
    assert python is not None
    tree.file(f"usr/bin/{PYTHON}-net-admin", python, 0o755, capability=_NET_ADMIN)
    tree.file("usr/bin/kubeedge-net-admin", _PROGRAM.format(python=f"/usr/bin/{PYTHON}-net-admin -I").encode(), 0o755)
    return tree


def installed(site: Path) -> list[tuple[str, str, str]]:
    """Name, version and license of every distribution, sorted."""
    found = []
    for metadata in sorted(site.glob("*.dist-info/METADATA")):
        headers = HeaderParser().parsestr(metadata.read_text(encoding="utf-8"))
        found.append(
            (str(headers["Name"]), str(headers["Version"]), str(headers["License-Expression"] or "NOASSERTION"))
        )
    return sorted(found)
