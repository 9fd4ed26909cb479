"""The main job, end to end, on one machine: `make demo`.

Hosts are namespaces: a cloud with a public address, two edge nodes each behind its own NAT, a web client on the internet.
Nothing is mocked. Every step is checked; the exit status is 0 only when all were.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from bench.demo.kubernetes import KubernetesScenario
from bench.demo.scenario import Scenario
from bench.report import RESULTS


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave everything running until Ctrl-C (make demo KEEP=1)")
    parser.add_argument("--quick", action="store_true", help="fewer samples (make demo QUICK=1)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="directory that demo.json goes to")
    parser.add_argument(
        "--kubernetes", action="store_true", help="on a real Kubernetes control plane (make demo KUBERNETES=1)"
    )
    options = parser.parse_args()
    if os.geteuid() != 0:
        print(
            "make demo needs root: it makes network namespaces and runs containers. Become root (su, or sudo make demo)."
        )
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        kind = KubernetesScenario if options.kubernetes else Scenario
        return kind(quick=options.quick, keep=options.keep, results=options.results).tell()
    except KeyboardInterrupt:
        print("\ninterrupted; everything has been removed")
        return 130


if __name__ == "__main__":
    sys.exit(main())
