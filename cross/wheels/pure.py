"""python pure.py SOURCE DIRECTORY: the wheel of a distribution without its compiled part, in DIRECTORY, beside extensions.json, which says what
is to be compiled. A program of its own: it runs with the build tools, and setup.py of the distribution runs in it.
"""

from __future__ import annotations

import json
import os
import sys

import setuptools  # noqa: F401 (it replaces distutils)

# isort: split
from distutils.core import run_setup


def main(source: str, directory: str) -> None:
    """Writes both files. SystemExit, or whatever setup.py raises, where it cannot."""
    os.chdir(source)
    sys.path.insert(0, source)
    distribution = run_setup("setup.py", ["-q", "bdist_wheel", "--dist-dir", directory], stop_after="commandline")
    wanted = ("name", "sources", "include_dirs", "libraries", "extra_compile_args", "extra_link_args")
    described = [{key: getattr(ext, key) for key in wanted} for ext in distribution.ext_modules or ()]
    distribution.ext_modules = None
    distribution.has_ext_modules = lambda: False  # some claim to have them always
    distribution.run_commands()
    with open(os.path.join(directory, "extensions.json"), "w") as file:
        json.dump(described, file)


main(*map(os.path.abspath, sys.argv[1:]))
