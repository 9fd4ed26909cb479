"""`make conformance`: Kubernetes' own e2e binary against a real control plane whose only nodes are edge nodes of ours.

    python -m bench.conformance [--focus REGEX] [--skip REGEX] [--missing] [--nodes 2] [--parallel 2] [--seconds 420] [--runtime cri] [--line bad] [--families dual]

The control plane, the cloud process and each agent are in network namespaces of their own, the agents behind NAT (nodes.py). Images are built and
preloaded (archives.py). What was found of a spec stays in bench/results/conformance.json until it is run again, with each runtime and line apart;
logs and JUnit files are in build/conformance. The exit status is 1 when a spec failed in this run.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import json
import os
import platform
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from bench.conformance import nodes, results
from bench.conformance.nodes import Variant
from bench.conformance.suite import Outcome, Suite, select
from bench.report import RESULTS, ROOT, commit
from tests.kit.cluster.site import Site, kubernetes_site
from tests.kit.upstream import build

BUILD = ROOT / "build" / "conformance"
FILE = RESULTS / "conformance.json"
#: what may not run beside others
_ALONE = "[Serial]"
_AT_ONCE = (
    4  # specs of one process of the suite, which takes seconds to start, and whose end is when its results are kept
)


def main() -> int:
    """0 when every spec that was run passed or skipped itself."""
    options = _options()
    if os.geteuid() != 0:
        print("make conformance needs root: it makes network namespaces")
        return 2
    shutil.rmtree(BUILD, ignore_errors=True)
    BUILD.mkdir(parents=True)
    specs = select(options.focus, options.skip, BUILD)
    variant = Variant(options.runtime, options.line, options.families)
    if options.missing:
        known = results.of(results.read(FILE), variant.name).get("specs", {})
        specs = [spec for spec in specs if known.get(spec, {"state": "failed"})["state"] == "failed"]
    print(f"{len(specs)} specs match {options.focus}", flush=True)
    if not specs:
        return 2
    with kubernetes_site(f"kbc{os.getpid()}", options.nodes) as site:
        nodes.start(site, variant)
        print("the nodes are Ready", flush=True)
        suite = Suite(site.cloud, site.cluster.kubeconfig(), BUILD, options.nodes, options.seconds)
        try:
            run(suite, specs, options.parallel, functools.partial(_keep, variant.name))
        finally:
            _keep_logs(site)
    known = results.of(results.read(FILE), variant.name)["specs"]
    ran = {spec: known[spec] for spec in specs}
    print(results.text({"specs": ran, "table": results.table(ran)}))
    return int(any(entry["state"] == "failed" for entry in ran.values()))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make conformance", description=__doc__)
    parser.add_argument("--focus", default=r"\[NodeConformance\]", help="regular expression of Go's for names of specs")
    parser.add_argument("--skip", default="", help="the same for those that are left out")
    parser.add_argument("--missing", action="store_true", help="not those that passed or skipped themselves before")
    parser.add_argument("--runtime", choices=nodes.RUNTIMES, default="embedded", help="of the agents' containers")
    parser.add_argument("--line", choices=nodes.LINES, default="good", help="of the agents; bad: 100 ms, 1 %% loss")
    parser.add_argument("--families", choices=nodes.FAMILIES, default="ipv4", help="of addresses, of the cluster")
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--parallel", type=int, default=2, help="so many specs at a time")
    parser.add_argument(
        "--seconds", type=float, default=420.0, help="for one spec; then it is interrupted and has failed"
    )
    return parser.parse_args()


def run(suite: Suite, specs: Sequence[str], parallel: int, keep: Callable[[list[Outcome]], None]) -> None:
    """So many at a time; after them those that want to be alone. `keep` hears of a few at a time, from this thread."""
    alone = [spec for spec in specs if _ALONE in spec]
    for workers, several in ((parallel, [spec for spec in specs if _ALONE not in spec]), (1, alone)):
        count = -(-len(several) // _AT_ONCE)
        shares = [several[n::count] for n in range(count)]  # neighbours take equally long: not all in one
        names = [f"suite{workers}-{n}" for n in range(count)]
        with ThreadPoolExecutor(workers) as pool:
            running = [pool.submit(suite.run, share, name) for share, name in zip(shares, names, strict=True)]
            try:
                for done in as_completed(running):
                    keep(done.result())
            except BaseException:  # the user has had enough, or a suite cannot run
                suite.stopped.set()
                raise


def _keep_logs(site: Site) -> None:
    for path in (*site.directory.glob("*.log"), *(site.directory / "kubernetes").glob("*.log")):
        shutil.copy(path, BUILD / f"{path.parent.name}-{path.name}")


def _keep(variant: str, found: Sequence[Outcome]) -> None:
    whole = results.read(FILE)
    document = results.merged(
        results.of(whole, variant),
        found,
        kubernetes=build.version("kubernetes", "k8s.io/kubernetes"),
        kernel=platform.release(),
        commit=commit(),
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    FILE.write_text(json.dumps(results.put(whole, variant, document), indent=1) + "\n")
    for outcome in found:
        print(f"{outcome.state:8} {outcome.seconds:6.1f} s  {outcome.spec}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
