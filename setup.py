"""What is declarative is in pyproject.toml; here: which C gets built, and where it lands.

KUBEEDGE_ANNOTATE=1  write Cython's annotated HTML beside the generated C
"""

import os
import shutil
import sysconfig
import tempfile
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

FASTPATH = Path("src/_fastpath")
#: header, Debian's package of it
HEADERS = (("stdio.h", "libc6-dev"), ("Python.h", "python3-dev"), ("openssl/ssl.h", "libssl-dev"))
PACKAGES = (
    "packet",
    "link",
    "plane",
    "l4",
    "http",
)  # of C; each includes only headers of its own and of those before it


def _found(*patterns: str) -> list[str]:
    return sorted(str(path) for pattern in patterns for path in FASTPATH.glob(pattern))


def extensions() -> list[Extension]:
    from Cython.Build import cythonize

    headers = _found(*(f"{package}/*.h" for package in PACKAGES))
    flags = {
        "include_dirs": [str(FASTPATH)],
        "extra_compile_args": ["-O3", "-g0", "-Wall", "-Werror=implicit-function-declaration"],
    }
    return cythonize(
        [
            Extension(
                "kubeedge._fastpath.plane",
                [str(FASTPATH / "plane.pyx"), *_found(*(f"{package}/*.c" for package in PACKAGES))],
                depends=[*headers, *_found("*.pxi")],
                libraries=["ssl", "crypto", "pthread"],
                **flags,
            ),
            Extension("kubeedge._fastpath.checksum", [str(FASTPATH / "checksum.pyx")], depends=headers, **flags),
            Extension(
                "kubeedge._fastpath.dns",
                [str(FASTPATH / "dns.pyx"), *_found("dns/*.c")],
                depends=[*headers, *_found("dns/*.h")],
                libraries=["pthread"],
                **flags,
            ),
            Extension("kubeedge._fastpath.libc", [str(FASTPATH / "libc.pyx")], **flags),
            Extension("kubeedge._fastpath.aead", [str(FASTPATH / "aead.pyx")], libraries=["crypto"], **flags),
            Extension("kubeedge._fastpath.signature", [str(FASTPATH / "signature.pyx")], libraries=["crypto"], **flags),
            Extension("kubeedge._fastpath.rsa", [str(FASTPATH / "rsa.pyx")], libraries=["crypto"], **flags),
            Extension("kubeedge._fastpath.records", [str(FASTPATH / "records.pyx")], **flags),
            Extension("kubeedge._fastpath.mqtt", [str(FASTPATH / "mqtt.pyx")], **flags),
            Extension("kubeedge._fastpath.keys", [str(FASTPATH / "keys.pyx")], libraries=["crypto"], **flags),
            Extension("kubeedge._fastpath.zstd", [str(FASTPATH / "zstd.pyx")], libraries=["dl"], **flags),
            # a program of its own, see its first lines
            Extension(
                "kubeedge._fastpath.pause",
                [str(FASTPATH / "pause/pause.c")],
                extra_compile_args=[
                    "-Os",
                    "-g0",
                    "-Wall",
                    "-ffreestanding",
                    "-fno-stack-protector",
                    "-fomit-frame-pointer",
                ],
                extra_link_args=["-nostdlib", "-Wl,-e,kubeedge_pause"],
            ),
        ],
        include_path=["src"],
        build_dir="build/cython",
        annotate=bool(os.environ.get("KUBEEDGE_ANNOTATE")),
        compiler_directives={"language_level": "3"},
    )


def _exists(header: str) -> bool:
    multiarch = f"/usr/include/{sysconfig.get_config_var('MULTIARCH')}"
    return any(Path(d, header).exists() for d in (sysconfig.get_path("include"), "/usr/include", multiarch))


class BuildExtensions(build_ext):
    """Says first what is missing, by the names of Debian's packages. The compiler would say it as the first of many errors."""

    def build_extensions(self) -> None:
        if self.extensions and (missing := self._missing()):
            names = ", ".join(f"{package} ({what})" for what, package in missing)
            packages = " ".join(package for _, package in missing)
            raise SystemExit(
                f"kubeedge: the compiled extension cannot be built without {names}\n"
                f"next: apt-get install --no-install-recommends {packages}"
            )
        super().build_extensions()

    def _missing(self) -> list[tuple[str, str]]:
        """What lacks, and the package that has it."""
        compiler = self.compiler.compiler_so[0]
        has_compiler = shutil.which(compiler) is not None
        # without the C library's headers none of the others compiles
        is_there = self._compiles if has_compiler and self._compiles("stdio.h") else _exists
        headers = [(header, package) for header, package in HEADERS if not is_there(header)]
        return headers if has_compiler else [(compiler, "gcc"), *headers]

    def _compiles(self, header: str) -> bool:
        with tempfile.TemporaryDirectory() as directory:
            source = Path(directory, "probe.c")
            source.write_text(f"#include <{header}>\n")
            try:
                self.compiler.compile([str(source)], output_dir=directory)
            except CompileError:
                return False
        return True


setup(
    package_dir={"": "src", "kubeedge._fastpath": str(FASTPATH)},
    packages=[*find_packages("src", include=["kubeedge", "kubeedge.*"]), "kubeedge._fastpath"],
    include_package_data=False,  # sources of the compiled part are for the source distribution alone
    package_data={"kubeedge": ["py.typed"], "kubeedge.apiserver": ["*.txt"], "kubeedge._fastpath": ["*.pyi"]},
    ext_modules=extensions(),
    cmdclass={"build_ext": BuildExtensions},
)
