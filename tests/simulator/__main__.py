"""python -m tests.simulator --seeds N [--from K] | --seed K [--trace]"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable

from tests.simulator.story import Outcome, play


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulator", description="Play seeded stories of hub and sync."
    )
    parser.add_argument("--seeds", type=int, default=200, help="how many stories (default 200)")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--seed", type=int, help="play this one only, and say what happened when it fails")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a processor)")
    parser.add_argument("--trace", action="store_true", help="print the whole story")
    args = parser.parse_args()
    seeds = [args.seed] if args.seed is not None else range(args.first, args.first + args.seeds)
    started = time.perf_counter()
    failed = []
    jobs = min(args.jobs, len(seeds))
    with multiprocessing.get_context("fork").Pool(jobs) if jobs > 1 else contextlib.nullcontext() as pool:
        outcomes = pool.imap(play, seeds, chunksize=8) if pool else map(play, seeds)
        _judge(args, outcomes, failed)
    took = time.perf_counter() - started
    print(
        f"{len(seeds)} seeds in {took:.1f} s ({len(seeds) / took:.1f} seeds/s, {jobs} processes), {len(failed)} failed",
        *failed,
    )
    return 1 if failed else 0


def _judge(args: argparse.Namespace, outcomes: Iterable[Outcome], failed: list[int]) -> None:
    for outcome in outcomes:
        if args.trace or (outcome.failure and args.seed is not None):
            print("\n".join(outcome.trace if args.trace else outcome.trace[-40:]))
        if outcome.failure:
            failed.append(outcome.seed)
            print(f"seed {outcome.seed}: {outcome.failure}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
