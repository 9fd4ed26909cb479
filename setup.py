"""What is declarative is in pyproject.toml; here: which C gets built, and where it lands.

KUBEEDGE_PURE=1          build no extension (a py3-none-any wheel; the reference implementations run)
KUBEEDGE_REQUIRE_FAST=1  fail when an extension cannot be built
KUBEEDGE_ANNOTATE=1      write Cython's annotated HTML beside the generated C
"""

import os
from pathlib import Path

from setuptools import Extension, find_packages, setup

FASTPATH = Path("src/_fastpath")
PLANE = (
    *("dataplane.c", "ports.c", "plane_api.c", "link.c", "forward.c", "queue.c", "packet.c", "icmp.c"),
    *("l4.c", "l4_budget.c", "l4_conn.c", "l4_loss.c", "l4_memory.c", "l4_plane.c", "l4_receive.c", "l4_send.c"),
    *("http1.c", "proxy.c", "proxy_upstream.c", "proxy_session.c", "proxy_share.c", "proxy_conn.c"),
)
PLANE_NEEDS = (
    "plane.h",
    "bytes.h",
    "plane_internal.h",
    "queue.h",
    "routes.h",
    "checksum.h",
    "l4.h",
    "l4_internal.h",
    "l4_plane.h",
    "l4.pxi",
    "http1.h",
    "proxy.h",
    "proxy_internal.h",
    "proxy.pxi",
)


def extensions() -> list[Extension]:
    if os.environ.get("KUBEEDGE_PURE"):
        return []
    from Cython.Build import cythonize

    optional = not os.environ.get("KUBEEDGE_REQUIRE_FAST")
    flags = {
        "extra_compile_args": ["-O3", "-g0", "-Wall", "-Werror=implicit-function-declaration"],
        "optional": optional,
    }
    modules = [
        Extension(
            "kubeedge._fastpath.plane",
            [str(FASTPATH / name) for name in ("plane.pyx", *PLANE)],
            include_dirs=[str(FASTPATH)],
            depends=[str(FASTPATH / name) for name in PLANE_NEEDS],
            libraries=["ssl", "crypto", "pthread"],
            **flags,
        ),
    ]
    small = [p for p in sorted(FASTPATH.glob("*.pyx")) if p.stem != "plane"]
    modules += [
        Extension(
            f"kubeedge._fastpath.{pyx.stem}",
            [str(pyx)],
            include_dirs=[str(FASTPATH)],
            depends=[str(header) for header in [pyx.with_suffix(".h")] if header.exists()],
            **flags,
        )
        for pyx in small
    ]
    return cythonize(
        modules,
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
