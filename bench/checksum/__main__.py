"""`make bench NAME=checksum`: the Internet checksum of `_fastpath`, bytes in cache, one processor.

python -m bench.checksum [--rounds 9]
"""

from __future__ import annotations

import argparse
import random
import sys
import time

from kubeedge._fastpath import checksum as fast

from bench.report import Report
from tests.reference import checksum as reference

SIZES = {20: (None, None), 64: (None, None), 1500: (15, 40), 65_536: (None, None)}  # bytes -> must, aim in GB/s
BYTES = 400_000_000  # of one sample


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench NAME=checksum", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    report = Report("checksum")
    for _ in range(rounds):
        for size, (must, aim) in SIZES.items():
            data = random.Random(size).randbytes(size)
            assert fast.ones_sum(data) == reference.ones_sum(data)
            times = BYTES // (size + 100)
            begun = time.perf_counter()
            fast.repeated(data, times)
            rate = size * times / (time.perf_counter() - begun) / 1e9
            report.add(f"checksum of {size} B", rate, unit="GB/s", must=must, aim=aim, higher=True)
    return 0 if report.finish() else 1


if __name__ == "__main__":
    sys.exit(main())
