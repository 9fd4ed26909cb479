"""`make fuzz [SECONDS=60] [TARGET=packet]`: libFuzzer on every decoder: those in C (clang, with address and undefined behaviour
sanitizers) and those in Python (atheris, which is left out when it is not installed).

    python -m tests.fuzz [--seconds 60] [--only packet] [--keep]

Starts from the corpus in tests/fuzz/corpus. What breaks is left in build/fuzz/NAME-*; --keep puts inputs that reach new code into the
corpus, as few and as small as they may be. Needs clang and its runtime (Debian: clang, libclang-rt-dev).
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

from tests.fuzz.decoders import CORPUS, DECODERS
from tests.fuzz.targets import HERE, SANITIZERS, Target, targets

BUILD = HERE.parents[1] / "build" / "fuzz"


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--only", default="", help="a target's name")
    parser.add_argument("--keep", action="store_true", help="put what reaches new code into the corpus")
    options = parser.parse_args()
    if shutil.which("clang") is None:
        print("make fuzz needs clang: apt-get install --no-install-recommends clang libclang-rt-dev")
        return 1
    chosen = [t for t in targets() if options.only in ("", t.name)]
    python = [name for name in DECODERS if options.only in ("", name)]
    if not chosen and not python:
        print(
            f"there is no fuzz target {options.only}; there are {', '.join([*(t.name for t in targets()), *DECODERS])}"
        )
        return 1
    failed = [t.name for t in chosen if not fuzz(t, options.seconds, keep=options.keep)]
    if python and importlib.util.find_spec("atheris") is None:
        print(f"fuzz: {', '.join(python)} need atheris: {sys.executable} -m pip install atheris")
        python = []
    failed += [name for name in python if not fuzz_python(name, options.seconds)]
    print(
        f"fuzz: {', '.join(failed)} broke; see {BUILD}"
        if failed
        else f"fuzz: {len(chosen) + len(python)} targets, nothing broke"
    )
    return 1 if failed else 0


def fuzz(target: Target, seconds: int, *, keep: bool) -> bool:
    BUILD.mkdir(parents=True, exist_ok=True)
    program = target.build(["clang", "-fsanitize=fuzzer,address,undefined"], BUILD / target.name, *SANITIZERS)
    found = BUILD / f"found-{target.name}"
    found.mkdir(exist_ok=True)
    target.corpus.mkdir(parents=True, exist_ok=True)
    print(f"fuzz: {target.name}, {seconds} s", flush=True)
    done = subprocess.run(
        [str(program), f"-max_total_time={seconds}", "-max_len=70000", "-timeout=10", "-print_final_stats=1", "-verbosity=0",
         f"-artifact_prefix={BUILD}/{target.name}-", str(found), str(target.corpus)],
    )  # fmt: skip
    if keep and not done.returncode:
        _merge(program, found, target.corpus)
    return done.returncode == 0


def fuzz_python(name: str, seconds: int) -> bool:
    found = BUILD / f"found-{name}"
    found.mkdir(parents=True, exist_ok=True)
    print(f"fuzz: {name}, {seconds} s", flush=True)
    command = [
        sys.executable,
        "-m",
        "tests.fuzz.decoders",
        name,
        f"-max_total_time={seconds}",
        "-max_len=8192",
        "-timeout=10",
    ]
    done = subprocess.run(
        [*command, "-rss_limit_mb=512", f"-artifact_prefix={BUILD}/{name}-", str(found), str(CORPUS / name)]
    )
    return done.returncode == 0


def _merge(program: Path, found: Path, corpus: Path) -> None:
    subprocess.run([str(program), "-merge=1", "-max_len=4096", "-verbosity=0", str(corpus), str(found)], check=True)


if __name__ == "__main__":
    sys.exit(main())
