"""`make cloud-image`: dist/ and Debian packages in, build/image/kubeedge-cloud.tar and its SBOM out; `make mapper-image`: kubeedge-mappers.tar.

    python -m cloud.image [cloud|mappers] [--dist dist] [--out build/image] [--name docker.io/kubeedge/cloud:VERSION]
                          [--python build/packaging/bin/python]

SOURCE_DATE_EPOCH is the time of everything in it (default: that of the last commit): the same wheels and packages give the same bytes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import kubeedge
from cloud.image import archive, debian, sbom, wheels

SBOM = "usr/share/doc/kubeedge/sbom.spdx.json"


@dataclass(frozen=True, slots=True)
class Contents:
    """What an image is. `budget`: MiB, of the archive and of the files in it: what a registry keeps, and a node's disk."""

    name: str
    title: str
    command: tuple[list[str], list[str]]  # entry point, arguments
    budget: tuple[int, int]
    ports: tuple[int, ...] = ()
    without: tuple[str, ...] = ()  # Debian packages

    @property
    def default(self) -> str:
        """The image's name."""
        return f"docker.io/kubeedge/{self.name}:{kubeedge.__version__}"


CLOUD = Contents(
    "cloud",
    "The cloud side of KubeEdge",
    (["/usr/bin/kubeedge"], ["cloud"]),
    (50, 180),
    (8080, 10000, 10002, 10010),
)
#: all mappers that come with the agent; and Python and the agent's package, below one that does not
MAPPERS = Contents(
    "mappers",
    "Mappers of KubeEdge",
    (["/usr/bin/kubeedge", "mapper"], ["virtual"]),
    (20, 70),
    without=("libstdc++6", "libuuid1", "netbase"),
)
CONTENTS = {one.name: one for one in (CLOUD, MAPPERS)}


def build(dist: Path, out: Path, contents: Contents, name: str, python: str, epoch: int) -> Path:
    """From the wheels in `dist`; raises SystemExit when it is larger than its budget."""
    site = wheels.install(dist, out, python, with_cloud=contents is CLOUD)
    return assemble(site, out, name, epoch, contents=contents)


def assemble(
    site: Path, out: Path, name: str, epoch: int, debs: Path | None = None, *, contents: Contents = CLOUD
) -> Path:
    """The archive, of Python packages that are in `site`; `debs`: where Debian's are kept."""
    out.mkdir(parents=True, exist_ok=True)
    packages = [one for one in debian.fetch(debs or out / "debs") if one.name not in contents.without]
    base = debian.unpack(packages)
    wheels.compile_all(site)
    above = wheels.layer(site, base, net_admin=contents is CLOUD)
    listed = sbom.document(name, packages, wheels.installed(site), epoch)
    above.file(SBOM, listed)
    (out / f"kubeedge-{contents.name}.spdx.json").write_bytes(listed)
    path, created = out / f"kubeedge-{contents.name}.tar", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))
    config = _config(name, created, contents)
    digest = archive.write(path, name, [base.layer(epoch), above.layer(epoch)], config, created=created, epoch=epoch)
    sizes = (path.stat().st_size / 2**20, (base.size() + above.size()) / 2**20)
    most = contents.budget
    print(f"{path}: {name} {digest}, {sizes[0]:.1f} MiB, unpacked {sizes[1]:.1f} MiB (budget: {most[0]} and {most[1]})")
    if sizes[0] > most[0] or sizes[1] > most[1]:
        raise SystemExit("the image is larger than its budget")
    return path


def _config(name: str, created: str, contents: Contents) -> dict[str, object]:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    return {
        "architecture": machine,
        "config": {
            "User": "65532:65532",
            "Env": [
                "PATH=/usr/bin",
                "PYTHONUNBUFFERED=1",
                "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt",
            ],
            "Entrypoint": contents.command[0],
            "Cmd": contents.command[1],
            "ExposedPorts": {f"{port}/tcp": {} for port in contents.ports},
            "Labels": {
                "org.opencontainers.image.title": f"kubeedge-{contents.name}",
                "org.opencontainers.image.description": contents.title,
                "org.opencontainers.image.version": kubeedge.__version__,
                "org.opencontainers.image.licenses": "Apache-2.0",
                "org.opencontainers.image.created": created,
                "org.opencontainers.image.ref.name": name,
            },
        },
    }


def _epoch() -> int:
    said = os.environ.get("SOURCE_DATE_EPOCH")
    if said is None:
        said = subprocess.run(["git", "log", "-1", "--format=%ct"], check=True, capture_output=True, text=True).stdout
    return int(said)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="build the OCI image of the cloud side, or of the mappers")
    parser.add_argument("contents", nargs="?", choices=sorted(CONTENTS), default=CLOUD.name)
    parser.add_argument("--dist", type=Path, default=Path("dist"), help="directory with the wheels of `make wheel`")
    parser.add_argument("--out", type=Path, default=Path("build/image"))
    parser.add_argument("--name", default="", help="of the image")
    parser.add_argument("--python", default=sys.executable, help="an interpreter with pip")
    options = parser.parse_args()
    contents = CONTENTS[options.contents]
    build(options.dist, options.out, contents, options.name or contents.default, options.python, _epoch())


if __name__ == "__main__":
    main()
