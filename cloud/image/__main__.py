"""`make cloud-image`: dist/ and Debian packages in, build/image/kubeedge-cloud.tar and its SBOM out.

    python -m cloud.image [--dist dist] [--out build/image] [--name docker.io/kubeedge/cloud:VERSION] [--python build/packaging/bin/python]

SOURCE_DATE_EPOCH is the time of everything in it (default: that of the last commit): the same wheels and packages give the same bytes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import kubeedge
from cloud.image import archive, debian, sbom, wheels

#: MiB, of the archive and of the files in it: what a registry keeps, and a node's disk
BUDGET = (50, 180)
SBOM = "usr/share/doc/kubeedge/sbom.spdx.json"


def build(dist: Path, out: Path, name: str, python: str, epoch: int) -> Path:
    """From the wheels in `dist`; raises SystemExit when it is larger than BUDGET."""
    return assemble(wheels.install(dist, out, python), out, name, epoch)


def assemble(site: Path, out: Path, name: str, epoch: int, debs: Path | None = None) -> Path:
    """The archive, of Python packages that are in `site`; `debs`: where Debian's are kept."""
    out.mkdir(parents=True, exist_ok=True)
    packages = debian.fetch(debs or out / "debs")
    base = debian.unpack(packages)
    wheels.compile_all(site)
    above = wheels.layer(site, base)
    listed = sbom.document(name, packages, wheels.installed(site), epoch)
    above.file(SBOM, listed)
    (out / "kubeedge-cloud.spdx.json").write_bytes(listed)
    path, created = out / "kubeedge-cloud.tar", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))
    config = _config(name, created)
    digest = archive.write(path, name, [base.layer(epoch), above.layer(epoch)], config, created=created, epoch=epoch)
    sizes = (path.stat().st_size / 2**20, (base.size() + above.size()) / 2**20)
    print(
        f"{path}: {name} {digest}, {sizes[0]:.1f} MiB, unpacked {sizes[1]:.1f} MiB (budget: {BUDGET[0]} and {BUDGET[1]})"
    )
    if sizes[0] > BUDGET[0] or sizes[1] > BUDGET[1]:
        raise SystemExit("the image is larger than its budget")
    return path


def _config(name: str, created: str) -> dict[str, object]:
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
            "Entrypoint": ["/usr/bin/kubeedge"],
            "Cmd": ["cloud"],
            "ExposedPorts": {f"{port}/tcp": {} for port in (8080, 10000, 10002, 10010)},
            "Labels": {
                "org.opencontainers.image.title": "kubeedge-cloud",
                "org.opencontainers.image.description": "The cloud side of KubeEdge",
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
    parser = argparse.ArgumentParser(description="build the OCI image of the cloud side")
    parser.add_argument("--dist", type=Path, default=Path("dist"), help="directory with the wheels of `make wheel`")
    parser.add_argument("--out", type=Path, default=Path("build/image"))
    parser.add_argument("--name", default=f"docker.io/kubeedge/cloud:{kubeedge.__version__}")
    parser.add_argument("--python", default=sys.executable, help="an interpreter with pip")
    options = parser.parse_args()
    build(options.dist, options.out, options.name, options.python, _epoch())


if __name__ == "__main__":
    main()
