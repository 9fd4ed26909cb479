"""`make bench NAME=checksum`: the Internet checksum of `_fastpath`, bytes in cache, one processor.

    python -m bench.checksum [--rounds 9]

The bound is a ratio to memcpy of 64 KiB in the same round: both do nothing but go through memory. Time is that of the processor.
"""

from __future__ import annotations

import argparse
import ctypes
import random
import sys
import time

from kubeedge._fastpath import checksum as fast

from bench.report import Report
from tests.reference import checksum as reference

SIZES = (20, 64, 1500, 65_536)  # bytes
COPIED = 65_536
BOUND = {1500: (0.4, 1.0)}  # must, aim of checksum / memcpy
BYTES = 400_000_000  # of one sample


def memcpy() -> float:
    """GB/s"""
    there, back = ctypes.create_string_buffer(COPIED), ctypes.create_string_buffer(COPIED)
    times = BYTES // COPIED
    begun = time.process_time()
    for _ in range(times):
        ctypes.memmove(there, back, COPIED)
    return COPIED * times / (time.process_time() - begun) / 1e9


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench NAME=checksum", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    report = Report("checksum")
    for _ in range(rounds):
        copied = memcpy()
        report.add(f"memcpy of {COPIED} B", copied, unit="GB/s", higher=True)
        for size in SIZES:
            data = random.Random(size).randbytes(size)
            assert fast.ones_sum(data) == reference.ones_sum(data)
            times = BYTES // (size + 100)
            begun = time.process_time()
            fast.repeated(data, times)
            rate = size * times / (time.process_time() - begun) / 1e9
            report.add(f"checksum of {size} B", rate, unit="GB/s", higher=True)
            if size in BOUND:
                must, aim = BOUND[size]
                report.add(f"checksum of {size} B / memcpy", rate / copied, unit="x", must=must, aim=aim, higher=True)
    return 0 if report.finish() else 1


if __name__ == "__main__":
    sys.exit(main())
