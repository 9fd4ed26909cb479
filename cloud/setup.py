"""What is declarative is in pyproject.toml; here: the version, which is that of kubeedge, and which kubeedge goes with it."""

import re
from email import message_from_string
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent / "src/kubeedge/__init__.py"
PACKED = HERE / "PKG-INFO"  # in a source distribution


def version() -> str:
    if PACKED.exists():
        return str(message_from_string(PACKED.read_text(encoding="utf-8"))["Version"])
    found = re.search(r'^__version__ = "([^"]+)"', SOURCE.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise SystemExit(f"no version in {SOURCE}")
    return found[1]


def compatible(with_version: str) -> str:
    """What both sides share may change with the second number, and does not with the third."""
    major, minor = map(int, with_version.split(".")[:2])
    return f"kubeedge>={major}.{minor},<{major}.{minor + 1}"


setup(
    version=version(),
    install_requires=[compatible(version()), "cryptography>=42"],
    packages=[*find_packages(str(HERE), include=["kubeedge_cloud", "kubeedge_cloud.*"]), "kubeedge_cloud.chart"],
    package_dir={"kubeedge_cloud.chart": "chart/kubeedge"},
    package_data={"kubeedge_cloud": ["py.typed"], "kubeedge_cloud.chart": ["**/*", ".helmignore"]},
)
