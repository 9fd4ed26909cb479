"""The tests of the data plane, with the C built by gcc's address and undefined behaviour sanitizers, and new keys every 16 records.

The hostile input is in tests/unit/kubebus_l3; here it runs against memory that is watched.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FASTPATH = ROOT / "src" / "_fastpath"
SOURCES = set(FASTPATH.glob("*/*.c"))
OURS = re.compile(r"#\d+ 0x[0-9a-f]+ in \S+ .*/_fastpath/[\w/]+\.(c|h|pyx|pxi)")

RUN = """
import importlib.util, sys
import kubeedge._fastpath
spec = importlib.util.spec_from_file_location("kubeedge._fastpath.plane", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
sys.modules["kubeedge._fastpath.plane"] = kubeedge._fastpath.plane = module
import pytest
sys.exit(pytest.main(["-q", "-x", "-p", "no:cacheprovider", "-k", sys.argv[2], *sys.argv[3:]]))
"""


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sanitized")
    generated, built = directory / "plane.c", directory / "plane.so"
    subprocess.run(
        [sys.executable, "-m", "cython", "-3", str(FASTPATH / "plane.pyx"), "-o", str(generated)], check=True
    )
    subprocess.run(
        [
            "gcc", "-shared", "-fPIC", "-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined",
            "-fno-sanitize-recover=undefined", "-DKB_REKEY_RECORDS=16", f"-I{FASTPATH}",
            f"-I{sysconfig.get_paths()['include']}", str(generated), *map(str, sorted(SOURCES)), "-o", str(built), "-lssl", "-lcrypto", "-lpthread",
        ],
        check=True,
    )  # fmt: skip
    return built


@pytest.fixture(scope="module")
def preload() -> str:
    argv = ["gcc", "-print-file-name=libasan.so"]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.root
def test_real_devices_and_networks_touch_no_memory_that_is_not_ours(
    sanitized: Path, preload: str, tmp_path: Path
) -> None:
    """Topology tests that pass by every kind of frame; Python itself is slow under a sanitizer, so not all of them."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/netns/test_plane.py",
         "-k", "two_edges or ipv6 or garbage"],
        cwd=ROOT,
        env={
            **os.environ,
            "KUBEEDGE_TEST_PLANE": str(sanitized),
            "KUBEEDGE_TEST_PRELOAD": preload,
            "PYTHONMALLOC": "malloc",
            "ASAN_OPTIONS": f"log_path={tmp_path}/asan:detect_leaks=0:detect_stack_use_after_return=1",
            "UBSAN_OPTIONS": f"log_path={tmp_path}/ubsan:print_stacktrace=1",
        },
        capture_output=True,
        text=True,
        timeout=900,
    )  # fmt: skip
    reports = [path.read_text()[-4000:] for path in tmp_path.glob("*san.*")]
    assert not reports, reports[0]
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


@pytest.mark.parametrize(
    ("which", "where"),
    [
        ("not python and not expire", "tests/unit/kubebus_l3"),
        ("not python", "tests/unit/kubebus_l4"),
        ("not slow and not hundred and not never_reads", "tests/unit/kubebus_http/test_publishing.py"),
        ("not page", "tests/unit/kubebus_http/test_fast.py"),
        ("not slow", "tests/unit/kubebus_http/test_bounded.py"),
        ("not slow", "tests/unit/kubebus_http/test_both_ways.py"),
        ("not slow", "tests/unit/kubebus_http/test_shared_origin.py"),
    ],
    ids=["plane", "l4", "proxies", "fast path", "bounds", "both ways", "shared origin"],
)
def test_hostile_input_touches_no_memory_that_is_not_ours_and_leaks_none(
    sanitized: Path, preload: str, which: str, where: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(sanitized), which, where],
        cwd=ROOT,
        env={
            **os.environ,
            "LD_PRELOAD": preload,
            "PYTHONMALLOC": "malloc",
            "ASAN_OPTIONS": "abort_on_error=0:detect_stack_use_after_return=1",
            "LSAN_OPTIONS": "exitcode=0",
            "UBSAN_OPTIONS": "print_stacktrace=1",
        },
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert " passed" in done.stdout
    # Python itself leaves objects behind at its end; ours has to leave none
    leaks = [block for block in done.stderr.split("\n\n") if " leak of " in block and OURS.search(block)]
    assert not leaks, "\n\n".join(leaks[:5])
