"""`make conformance-gateway`: Gateway API's conformance suite against a real control plane, with the cloud's Gateways and pods of edge nodes.

    python -m bench.conformance.gateway [--test NAME] [--profiles GATEWAY-HTTP,...] [--nodes 2] [--on-node]

With --on-node the Gateways are those of the first node, and the suite is a machine of its LAN. The features are those that the GatewayClass declares.
What was found of each test is in bench/results/gateway.json, or gateway-node.json; a run of one test alone replaces what is known of that one. Logs and upstream's report are in build/conformance-gateway. The exit status is 1 when a test failed.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.conformance import archives
from bench.report import RESULTS, ROOT, commit
from tests.kit import images
from tests.kit.cluster import rights
from tests.kit.cluster.site import Site, kubernetes_site
from tests.kit.topology import until
from tests.kit.upstream import build

BUILD = ROOT / "build" / "conformance-gateway"
FILE = RESULTS / "gateway.json"
NODE_FILE = RESULTS / "gateway-node.json"
MODULE = "sigs.k8s.io/gateway-api"
CLASS = "kubeedge"
PROFILES = "GATEWAY-HTTP,GATEWAY-TLS,GATEWAY-TCP"
#: of the cloud's machine; one for each Gateway that the suite has at a time
ADDRESSES = [f"203.0.113.{number}" for number in range(10, 42)]
#: at no interface of that machine
UNUSABLE = "192.0.2.77"
#: of the first node
NODE_ADDRESSES = [f"198.51.100.{number}" for number in range(10, 42)]

_ECHO = "registry.k8s.io/gateway-api/echo-basic"
_COREDNS = "registry.k8s.io/coredns/coredns:v1.12.2"
_TAGS = ("v1.5.1", "v1.6.0-dev.2", "v1.6.0-dev.3")
_RESULT = re.compile(r"^ *--- (PASS|FAIL|SKIP): TestConformance/(\S+) \(([0-9.]+)s\)$")
_SECONDS = 3600
_STATES = {"PASS": "passed", "FAIL": "failed", "SKIP": "skipped"}


def main() -> int:
    """0 when every test that was run passed."""
    options = _options()
    if os.geteuid() != 0:
        print("make conformance-gateway needs root: it makes network namespaces")
        return 2
    shutil.rmtree(BUILD, ignore_errors=True)
    BUILD.mkdir(parents=True)
    with kubernetes_site(f"kbg{os.getpid()}", options.nodes) as site:
        try:
            _start(site, on_node=options.on_node)
            features = _class(site, on_node=options.on_node)
            _suite(site, options)
        finally:
            _keep_logs(site)
    found = outcomes((BUILD / "suite.log").read_text(errors="replace").splitlines())
    file = NODE_FILE if options.on_node else FILE
    document = _document(file, found, features, whole=not options.test)
    file.write_text(json.dumps(document, indent=1) + "\n")
    for name, entry in sorted(found.items()):
        if entry["state"] != "skipped":
            print(f"{entry['state']:8} {entry['seconds']:6.1f} s  {name}")
    states = [entry["state"] for entry in found.values()]
    print(f"{states.count('passed')} passed, {states.count('failed')} failed, {states.count('skipped')} not asked for")
    return int("failed" in states or "passed" not in states)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make conformance-gateway", description=__doc__)
    parser.add_argument("--test", default="", help="the short name of one test")
    parser.add_argument("--profiles", default=PROFILES)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--on-node", action="store_true")
    return parser.parse_args()


def _start(site: Site, *, on_node: bool) -> None:
    """Everything, until all nodes are Ready."""
    first = next(iter(site.edges))
    for address in ADDRESSES:
        site.cloud.run("ip", "address", "add", f"{address}/32", "dev", "lo")
    cluster = site.start_cluster()
    cluster.apply(*rights.objects(rights.GATEWAYS))
    crds = build.sources("gateway", MODULE) / "config/crd/standard"
    files = [option for path in sorted(crds.glob("gateway*.yaml")) for option in ("-f", str(path))]
    cluster.kubectl("apply", "--server-side", *files, timeout=120)
    site.start_cloud(
        [f"default={site.kubeconfig()}"],
        more={
            "publishing": {
                "clusterGateways": True, "gatewayAddresses": ADDRESSES, "addressesOfTenant": len(ADDRESSES),
                "timeout": 60,
            },
            "listeners": {"api": {"port": 7443}, "web": {"port": 8080, "address": "203.0.113.1"}},
            "logging": {"level": "debug"},
        },
    )  # fmt: skip
    made = _images(site.directory / "archives")
    for name in site.edges:
        preload = site.directory / name / "var/lib/kubeedge/edge/images/preload"
        preload.mkdir(parents=True)
        for archive in made:
            (preload / archive.name).hardlink_to(archive)
        site.join(name, modules=_modules(site, name) if on_node and name == first else None)
    for name in site.edges:
        site.cluster.kubectl("wait", "--for=condition=Ready", f"node/{name}", "--timeout=300s", timeout=330)
    print("the nodes are Ready", flush=True)


def _modules(site: Site, name: str) -> dict[str, dict[str, Any]]:
    """Gateways on a node: their addresses are on its machine, and its LAN has a route there."""
    where = json.loads(site.edges[name].ip("-j", "-4", "route", "show", "default"))[0]
    lan = json.loads(site.edges[name].ip("-j", "-4", "addr", "show", "dev", where["dev"]))[0]["addr_info"][0]["local"]
    for address in NODE_ADDRESSES:
        site.edges[name].ip("addr", "add", f"{address}/32", "dev", "lo")
        site.nats[name].ip("route", "add", f"{address}/32", "via", lan)
    gateways = {"enable": True, "address": lan, "addresses": NODE_ADDRESSES}
    return {"mesh": {"enable": True, "gateways": gateways}}


def _images(directory: Path) -> list[Path]:
    """The program of the backends, and what stands for the name server behind UDPRoutes, which are not tested: its pods have to be ready."""
    directory.mkdir(parents=True)
    programs = {"bin/echo-basic": build.program("echo-basic").read_bytes()}
    config = {"Entrypoint": ["/bin/echo-basic"], "Cmd": None}
    waits = {"Entrypoint": archives.PAUSE, "Cmd": None}
    return [
        *(
            images.build(directory / f"echo-basic-{tag}.tar", f"{_ECHO}:{tag}", programs=programs, config=config)
            for tag in _TAGS
        ),
        images.build(directory / "coredns.tar", _COREDNS, config=waits),
    ]


def _class(site: Site, *, on_node: bool) -> list[str]:
    """Makes the GatewayClass, and waits for the features that it declares."""
    first = next(iter(site.edges))
    annotations = {"kubeedge.io/nodes": f"kubernetes.io/hostname={first}"} if on_node else {}
    controller = "kubeedge.io/node-gateway" if on_node else "kubeedge.io/gateway"
    site.cluster.apply(
        {
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
            "metadata": {"name": CLASS, "annotations": annotations}, "spec": {"controllerName": controller},
        }
    )  # fmt: skip

    def declared() -> list[str]:
        text = site.cluster.kubectl("get", "gatewayclass", CLASS, "-o", "jsonpath={.status.supportedFeatures[*].name}")
        return text.split()

    # a node with addresses declares more than one that has not said so yet
    until(lambda: "GatewayStaticAddresses" in declared(), timeout=120, what="the features of the GatewayClass")
    return declared()


def _suite(site: Site, options: argparse.Namespace) -> None:
    log = BUILD / "suite.log"
    one = ["-run-test", options.test] if options.test else []
    host = site.nats[next(iter(site.edges))] if options.on_node else site.cloud
    addresses = NODE_ADDRESSES if options.on_node else ADDRESSES
    process = host.spawn(
        str(build.program("gateway-conformance")), "-test.v", "-test.run", "^TestConformance$", f"-test.timeout={_SECONDS}s",
        "-gateway-class", CLASS, "-conformance-profiles", options.profiles, "-disable-parallel-tests",
        "-usable-address", addresses[-1], "-unusable-address", UNUSABLE,
        "-report-output", str(BUILD / "report.yaml"), "-organization", "kubeedge", "-project", "kubeedge",
        "-url", "https://kubeedge.io", "-version", commit(), "-contact", "none",
        "-timeout-config-overrides", "DefaultTestTimeout:120s", *one,
        log=log, env={"HOME": str(BUILD), "KUBECONFIG": str(site.cluster.kubeconfig())},
    )  # fmt: skip
    try:
        process.wait(_SECONDS + 60)
    except subprocess.TimeoutExpired:
        host.stop(process)


def outcomes(lines: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Of each test by its short name; one that failed with the names of its parts that did."""
    found: dict[str, dict[str, Any]] = {}
    for line in lines:
        if (told := _RESULT.match(line)) is None:
            continue
        state, path, seconds = told.groups()
        name, _, part = path.partition("/")
        entry = found.setdefault(name, {"state": "", "seconds": 0.0})
        if not part:
            entry |= {"state": _STATES[state], "seconds": float(seconds)}
        elif state == "FAIL":
            entry.setdefault("parts", []).append(part)
    return found


def _document(file: Path, found: dict[str, dict[str, Any]], features: list[str], *, whole: bool) -> dict[str, Any]:
    before = {} if whole or not file.exists() else json.loads(file.read_text()).get("tests", {})
    ran = {name: entry for name, entry in found.items() if entry["state"] != "skipped"}
    tests = {**before, **{name: {**entry, "commit": commit()} for name, entry in ran.items()}}
    states = [entry["state"] for entry in tests.values()]
    return {
        "gateway-api": build.version("gateway", MODULE),
        "kubernetes": build.version("kubernetes", "k8s.io/kubernetes"),
        "machine": platform.machine(), "cores": os.cpu_count(), "kernel": platform.release(),
        "commit": commit(), "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "features": features,
        "table": {state: states.count(state) for state in ("passed", "failed")},
        "tests": dict(sorted(tests.items())),
    }  # fmt: skip


def _keep_logs(site: Site) -> None:
    for path in site.directory.glob("*.log"):
        shutil.copy(path, BUILD / path.name)


if __name__ == "__main__":
    raise SystemExit(main())
