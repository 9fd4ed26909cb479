"""Chaos with real processes: python -m tests.chaos --seconds 60 [--seed 7] [--rounds 1] [--store etcd|sqlite]

Two cloud processes over three members of etcd (or one on SQLite) and two agents, each on a machine of its own (namespaces); clients that
write and read on both sides; kill -9, SIGSTOP and cut cables from a seed. Then everything comes up again, and every write that was
acknowledged must be there, once, in order, on both sides. The same seed gives the same faults at the same times; what they hit is up to the machine.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from tests.chaos.faults import schedule
from tests.chaos.scenario import run

STORES = ("etcd", "sqlite")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of faults, on each store")
    parser.add_argument("--seed", type=int, default=0, help="0: by chance")
    parser.add_argument("--rounds", type=int, default=1, help="as many seeds, one after the other")
    parser.add_argument("--store", choices=STORES, help="both when not given")
    parser.add_argument("--schedule", action="store_true", help="print the faults, and do nothing")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("make chaos needs root: namespaces of its own", file=sys.stderr)
        return 2
    first = options.seed or int.from_bytes(os.urandom(3), "big")
    failed = 0
    for seed in range(first, first + options.rounds):
        for store in (options.store,) if options.store else STORES:
            print(f"seed {seed}, {store}, {options.seconds:g} s", flush=True)
            if options.schedule:
                clouds, members = (2, 3) if store == "etcd" else (1, 0)
                for fault in schedule(seed, options.seconds, agents=2, clouds=clouds, members=members):
                    print(fault)
                continue
            begun = time.monotonic()
            result = run(seed, options.seconds, store=store, say=lambda text: print(f"  {text}", flush=True), keep=True)
            for line in result.wrong:
                print(f"WRONG {line}")
            print(f"seed {seed}, {store}: {result}; {time.monotonic() - begun:.0f} s", flush=True)
            if result.wrong:
                failed += 1
                print(
                    f"again: make chaos SECONDS={options.seconds:g} SEED={seed} STORE={store}; see {result.directory}"
                )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
