"""What is declarative is in pyproject.toml; here: which C gets built, and where it lands.

KUBEEDGE_ANNOTATE=1  write Cython's annotated HTML beside the generated C
"""

import os
from pathlib import Path

from setuptools import Extension, find_packages, setup

FASTPATH = Path("src/_fastpath")
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
            Extension("kubeedge._fastpath.libc", [str(FASTPATH / "libc.pyx")], **flags),
        ],
        include_path=["src"],
        build_dir="build/cython",
        annotate=bool(os.environ.get("KUBEEDGE_ANNOTATE")),
        compiler_directives={"language_level": "3"},
    )


setup(
    package_dir={"": "src", "kubeedge._fastpath": str(FASTPATH)},
    packages=[*find_packages("src", include=["kubeedge", "kubeedge.*"]), "kubeedge._fastpath"],
    package_data={"kubeedge": ["py.typed"], "kubeedge._fastpath": ["*.pyi"]},
    ext_modules=extensions(),
)
