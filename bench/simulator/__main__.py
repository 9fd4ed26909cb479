"""How fast the seeded simulator is, and what is in a seed: make bench NAME=simulator

Three runs of `make simulate` over the same seeds, one process for each processor.
"""

from __future__ import annotations

import re
import subprocess
import sys

from bench.report import Report

SEEDS = 1500
RUNS = 3
CONTENT = ("puts and deletes", "faults", "commits", "messages")


def main() -> int:
    report = Report("simulator")
    for _ in range(RUNS):
        done = subprocess.run(
            [sys.executable, "-m", "tests.simulator", "--seeds", str(SEEDS)], capture_output=True, text=True
        )
        if done.returncode or not (rate := re.search(r"\(([\d.]+) seeds/s", done.stdout)):
            print(done.stdout, done.stderr)
            return 1
        report.add("seeds", float(rate[1]), unit="1/s", must=50, aim=500, higher=True)
        for what in CONTENT:
            if found := re.search(rf"([\d.]+) {what}", done.stdout):
                report.add(f"{what} in a seed", float(found[1]), unit="")
    return 0 if report.finish() else 1


if __name__ == "__main__":
    sys.exit(main())
