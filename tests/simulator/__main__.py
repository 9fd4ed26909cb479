"""python -m tests.simulator --seeds N [--from K] | --seed K [--trace]

A line for each seed that failed, with the command that plays it again; at the end how many seeds there were, how fast, and what was in
them. The digest of a seed is that of every message and every commit, and when: two runs of one seed have the same. That of all seeds is
the digest of their digests.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import hashlib
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from tests.faults.powercut import build_recorder
from tests.simulator.scenario import Counts, Outcome, play
from tests.simulator.sqlite_disks import recorder_is_there

EVERY = 25  # of so many seeds one is played on real SQLite files


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulator", description="Play seeded scenarios of hub, sync and store."
    )
    parser.add_argument("--seeds", type=int, default=200, help="how many scenarios (default 200)")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--seed", type=int, help="play this one only, and say what happened when it fails")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a processor)")
    parser.add_argument("--disk", choices=("memory", "sqlite"), help=f"default: sqlite for one seed of {EVERY}")
    parser.add_argument("--trace", action="store_true", help="print the whole scenario")
    parser.add_argument("--digests", action="store_true", help="print the digest of every seed")
    args = parser.parse_args()
    seeds = [args.seed] if args.seed is not None else range(args.first, args.first + args.seeds)
    args.digests = args.digests or len(seeds) == 1
    scenarios = [(seed, args.disk or ("sqlite" if seed % EVERY == EVERY - 1 else "memory")) for seed in seeds]
    if any(disk == "sqlite" for _, disk in scenarios) and not recorder_is_there():
        _again_with_the_recorder()
    started = time.perf_counter()
    jobs = min(args.jobs, len(seeds))
    if library := os.environ.pop("LD_PRELOAD", ""):  # it is loaded
        shutil.rmtree(Path(library).parent, ignore_errors=True)
    gc.freeze()
    with multiprocessing.get_context("fork").Pool(jobs) if jobs > 1 else contextlib.nullcontext() as pool:
        outcomes = pool.imap(_play, scenarios, chunksize=8) if pool else map(_play, scenarios)
        failed, counts, digest = _check(args, outcomes)
    took = time.perf_counter() - started
    n = len(seeds)
    print(
        f"{n} seeds in {took:.1f} s ({n / took:.1f} seeds/s, {jobs} processes), {len(failed)} failed, digest {digest}\n"
        f"a seed: {counts.operations / n:.1f} puts and deletes, {counts.faults / n:.1f} faults, {counts.commits / n:.1f} commits, "
        f"{counts.messages / n:.1f} messages, {counts.callbacks / n:.0f} callbacks; "
        f"{counts.deaths.total()} deaths at {len(counts.deaths)} fault points"
    )
    return 1 if failed else 0


def _play(scenario: tuple[int, str]) -> Outcome:
    return play(*scenario)


def _again_with_the_recorder() -> None:
    """It has to be there before SQLite is loaded."""
    directory = tempfile.mkdtemp(prefix="kbsim")
    library = Path(directory) / "recorder.so"
    build_recorder(library)
    os.environ["LD_PRELOAD"] = str(library)
    os.execv(sys.executable, [sys.executable, "-m", "tests.simulator", *sys.argv[1:]])


def _check(args: argparse.Namespace, outcomes: Iterable[Outcome]) -> tuple[list[int], Counts, str]:
    failed, counts, digest = [], Counts(), hashlib.blake2b(digest_size=8)
    for outcome in outcomes:
        counts.add(outcome.counts)
        digest.update(outcome.digest.encode())
        if args.trace or (outcome.failure and args.seed is not None):
            print("\n".join(outcome.trace if args.trace else outcome.trace[-40:]))
        if args.digests:
            print(f"seed {outcome.seed}: digest {outcome.digest}, {outcome.counts}")
        if outcome.failure:
            failed.append(outcome.seed)
            print(f"seed {outcome.seed}: {outcome.failure}\n    again: make simulate SEED={outcome.seed}", flush=True)
    return failed, counts, digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
