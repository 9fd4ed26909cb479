"""What is in each package, for one processor and one release of Debian.

kubeedge-common   the command, and the Python modules of the agent in an environment of their own, /usr/lib/kubeedge
kubeedge          the agent's service, and what a node needs: crun, conmon, CNI plugins, ...
kubeedge-cloud    the modules and the service of the cloud side

Modules are those of the wheels. The environment is one of venv's: Debian's Python runs it, and sees none of Debian's modules but the standard
library. Python compiles when a package is configured, as for all of Debian's own.
"""

from __future__ import annotations

import email.utils
import gzip
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path

from cross.deb import elf, units
from cross.deb.archive import DebPackage
from cross.wheels.targets import Python, Target
from kubeedge.cli import service

HOME = str(Path(service.PACKAGED_PYTHON).parents[1]).lstrip("/")
_SCRIPTS = Path(__file__).with_name("scripts")
_MAINTAINER = "KubeEdge maintainers <maintainers@kubeedge.invalid>"
#: the suite, its number in versions, and what a package that is linked with OpenSSL 3 is called there
_RELEASES = {"bookworm": ("12", "libssl3"), "trixie": ("13", "libssl3t64")}
#: what an agent, and the plugins that it calls, run: kubeedge.cli.preflight names what lacks without each
NODE = ("crun", "conmon", "containernetworking-plugins", "nftables", "iptables", "iproute2", "ca-certificates")
_PROGRAM = """#!{python}
import sys

from kubeedge.cli.main import main

sys.exit(main())
"""
_DESCRIPTIONS = {
    "kubeedge-common": """Kubernetes nodes behind NAT: the command and its modules
KubeEdge makes machines at the edge of the network nodes of a Kubernetes
cluster. They need outgoing connections only, and run their pods while the
cloud cannot be reached.

This package has the command, and the modules of the agent with what they
depend on, in a Python environment of their own.""",
    "kubeedge": """Kubernetes nodes behind NAT: the agent of a node
KubeEdge makes machines at the edge of the network nodes of a Kubernetes
cluster. They need outgoing connections only, and run their pods while the
cloud cannot be reached.

This package has the agent's service, which "kubeedge join" starts.""",
    "kubeedge-cloud": """Kubernetes nodes behind NAT: the cloud side
KubeEdge makes machines at the edge of the network nodes of a Kubernetes
cluster. They need outgoing connections only, and run their pods while the
cloud cannot be reached.

This package has what the nodes connect to: the Kubernetes API, the hub and
the relay, as a service with a user of its own, which "kubeedge init" starts.
Its store is SQLite.""",
}


@dataclass(frozen=True, slots=True)
class Version:
    """`upstream` as in wheels; `revision`: of the packaging; `epoch`: the time of everything, in seconds since 1970."""

    upstream: str
    revision: str
    epoch: int

    def of(self, python: Python) -> str:
        """In Debian's form; that of a later release is the higher one, so that an upgrade of the release brings its packages."""
        return f"{self.upstream}-{self.revision}+deb{_RELEASES[python.suite][0]}"


def packages(target: Target, python: Python, version: Version, wheelhouse: Path, cloud_wheel: Path) -> list[DebPackage]:
    """All three, of the agent's wheels in `wheelhouse` and the one of the cloud side."""
    same = f"(= {version.of(python)})"
    common = _package("kubeedge-common", target.debian, python, version, _common_depends(python))
    _add(common, python, sorted(wheelhouse.glob("*.whl")))
    program = f"{HOME}/bin/kubeedge"
    common.files[program] = _PROGRAM.format(python=service.PACKAGED_PYTHON).encode()
    common.programs.add(program)
    common.files[f"{HOME}/pyvenv.cfg"] = (
        f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {python.version}\n".encode()
    )
    common.links |= {service.PACKAGED_PYTHON[1:]: f"/usr/bin/python{python.version}"}
    common.links |= {f"usr/bin/{name}": f"/{program}" for name in ("kubeedge", "keadm")}
    agent = _package("kubeedge", "all", python, version, ", ".join((f"kubeedge-common {same}", *NODE)))
    agent.fields["Recommends"] = "kmod"
    agent.files[f"usr/lib/systemd/system/{service.EDGE.name}"] = units.edge().encode()
    cloud = _package("kubeedge-cloud", "all", python, version, f"kubeedge-common {same}, adduser")
    cloud.fields |= {"Recommends": "nftables", "Suggests": "kubernetes-client"}
    _add(cloud, python, [cloud_wheel])
    cloud.files[f"usr/lib/systemd/system/{service.CLOUD.name}"] = units.cloud().encode()
    cloud.files["usr/lib/tmpfiles.d/kubeedge-cloud.conf"] = units.cloud_tmpfiles().encode()
    return [common, agent, cloud]


def _common_depends(python: Python) -> str:
    openssl = _RELEASES[python.suite][1]
    # libc6: what the wheels of PyPI want, of which cryptography's is the newest; libzstd1 is loaded by name; python3 has py3compile
    return f"python{python.version}, python3, libc6 (>= 2.34), {openssl} (>= 3.0.0), libzstd1"


def _package(name: str, architecture: str, python: Python, version: Version, depends: str) -> DebPackage:
    made = DebPackage(
        {
            "Package": name,
            "Source": "" if name == "kubeedge" else "kubeedge",
            "Version": version.of(python),
            "Architecture": architecture,
            "Maintainer": _MAINTAINER,
            "Depends": depends,
            "Section": "net",
            "Priority": "optional",
            "Homepage": "https://kubeedge.io",
            "Description": _DESCRIPTIONS[name],
        }
    )
    made.files[f"usr/share/doc/{name}/copyright"] = _copyright([]).encode()
    made.files[f"usr/share/doc/{name}/changelog.Debian.gz"] = gzip.compress(_changelog(python, version), 9, mtime=0)
    for path in sorted(_SCRIPTS.glob(f"{name}.*")):
        made.scripts[path.suffix[1:]] = path.read_text().replace("@PYTHON@", python.version)
    return made


def _changelog(python: Python, version: Version) -> bytes:
    date = email.utils.formatdate(version.epoch)
    entry = f"kubeedge ({version.of(python)}) {python.suite}; urgency=medium\n\n  * Release {version.upstream}.\n"
    return f"{entry}\n -- {_MAINTAINER}  {date}\n".encode()


def _add(package: DebPackage, python: Python, wheels: list[Path]) -> None:
    """Their modules, and what names them and their licences."""
    licences = []
    for wheel in wheels:
        for name, data in _unpacked(wheel):
            package.files[f"{HOME}/lib/python{python.version}/site-packages/{name}"] = data
            if name.endswith(".dist-info/METADATA"):
                licences.append(_licence(data))
    package.files[f"usr/share/doc/{package.fields['Package']}/copyright"] = _copyright(licences).encode()


def _unpacked(wheel: Path) -> Iterator[tuple[str, bytes]]:
    """Without RECORD, which is pip's: it must not touch what dpkg has installed."""
    with zipfile.ZipFile(wheel) as packed:
        for name in packed.namelist():
            if not name.endswith(("/", ".dist-info/RECORD")) and ".data/" not in name:
                data = packed.read(name)
                yield name, elf.stripped(data) if name.endswith(".so") else data


def _licence(metadata: bytes) -> str:
    """Name, version and licence of a distribution."""
    headers = HeaderParser().parsestr(metadata.decode())
    said = headers["License-Expression"] or headers["License"] or "see its licence files"
    return f"{headers['Name']} {headers['Version']}: {said.splitlines()[0]}"


def _copyright(licences: list[str]) -> str:
    """In Debian's form (copyright-format 1.0)."""
    listed = "".join(f"\n {line}" for line in licences)
    comment = f"Comment: The Python distributions in this package, with their texts in *.dist-info/licenses:{listed}\n"
    return (
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"
        f"Source: https://kubeedge.io\n{comment if licences else ''}\n"
        "Files: *\nCopyright: The KubeEdge Authors\nLicense: Apache-2.0\n"
        " On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.\n"
    )
