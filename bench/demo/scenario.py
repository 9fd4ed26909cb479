"""The demo's steps, in order; each prints what it checked and what it measured."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.demo import manifests, memory
from bench.demo.devices import NAME as DEVICE
from bench.demo.devices import DemoDevice
from bench.demo.kubectl import Kubectl, Watch, ready
from bench.report import RESULTS, ROOT, Report
from tests.kit import images
from tests.kit.topology import Host, edges_behind_nat, until

BUILD = ROOT / "build" / "demo"
KUBEEDGE = ROOT / ".venv" / "bin" / "kubeedge"
CLOUD_ADDRESS = "203.0.113.1"
TENANT = "default"
EDGE_OVERLAY = {"edge1": "100.64.0.1", "edge2": "100.64.0.2"}
CLOUD_OVERLAY = "100.64.255.254"


class Scenario:
    name = "demo"  # of the report

    def __init__(self, *, quick: bool, keep: bool, results: Path = RESULTS) -> None:
        self.quick, self.keep = quick, keep
        self.report = Report(self.name, results)
        self.began = time.monotonic()
        self.agents: dict[str, subprocess.Popen[bytes]] = {}

    # -- the frame ---------------------------------------------------------------------------------------------------

    def tell(self) -> int:
        shutil.rmtree(BUILD, ignore_errors=True)
        BUILD.mkdir(parents=True)
        with contextlib.ExitStack() as stack:
            stack.callback(self._remove_cgroups)
            self.say("making hosts: cloud, internet, edge1 and edge2 behind NAT")
            _, self.cloud, self.edges, self.nats, self.internet = stack.enter_context(edges_behind_nat(2))
            try:
                self._steps(stack)
            except (AssertionError, RuntimeError, subprocess.SubprocessError) as exc:
                print(f"\nFAILED: {exc}", flush=True)
                self._show_logs()
                return 1
            ok = self.report.finish()
            print("\nevery step was checked" if ok else "\na figure misses its `must`", flush=True)
            if self.keep:
                self._keep()
            return 0 if ok else 1

    def _steps(self, stack: contextlib.ExitStack) -> None:
        self.start_the_cloud()
        self.nodes = stack.enter_context(contextlib.closing(self.kubectl.watch("nodes")))
        self.join_the_nodes()
        self.pods = stack.enter_context(contextlib.closing(self.kubectl.watch("pods")))
        self.run_workloads()
        self.reach_everything()
        self.publish()
        self.use_a_device()
        self.more_steps(stack)
        self.lose_the_cloud_and_power()
        self.sum_up()

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[None]:
        print(f"\n\033[1m[{time.monotonic() - self.began:6.1f} s] {title}\033[0m", flush=True)
        yield

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.began:6.1f} s]   {text}", flush=True)

    def check(self, truth: bool, text: str) -> None:
        if not truth:
            raise AssertionError(text)
        self.say(f"ok: {text}")

    # -- 1 -----------------------------------------------------------------------------------------------------------

    def start_the_cloud(self) -> None:
        with self.step("1. the cloud: store, Kubernetes API, hub, relay, web publishing"):
            root = BUILD / "cloud"
            root.mkdir()
            config = root / "kubeedge.yaml"
            config.write_text(json.dumps(cloud_config(root) | self.more_config()))
            self.cloud_process = self.cloud.spawn(
                str(KUBEEDGE), "cloud", "--config", str(config), log=BUILD / "cloud.log"
            )
            self.kubectl = self.make_kubectl(root)
            until(lambda: "ok" in self.kubectl("get", "--raw", "/readyz", check=False), timeout=20, what="the API")
            socket = root / "run/cloud.sock"  # the last thing that the cloud opens
            until(socket.exists, timeout=20, what="the administrator's socket")
            self.say(self.kubectl("version", "--short", check=False).strip().replace("\n", ", "))

    def more_config(self) -> dict[str, Any]:
        """Of the cloud, in addition to `cloud_config`."""
        return {}

    def make_kubectl(self, root: Path) -> Kubectl:
        """For the tenant's API, whose cloud has its files below `root`."""
        kubeconfig = root / "state" / f"kubeconfig-{TENANT}"
        until(lambda: kubeconfig.exists() or self._died(self.cloud_process), timeout=20, what="the kubeconfig")
        return Kubectl(self.cloud, kubeconfig, BUILD / "home")

    # -- 2 -----------------------------------------------------------------------------------------------------------

    def join_the_nodes(self) -> None:
        with self.step("2. bootstrap tokens, `kubeedge join`, both nodes Ready"):
            archive = images.build(BUILD / "demo-image.tar", manifests.IMAGE)
            for edge in self.edges:
                root = BUILD / edge.name
                preload = root / "var/lib/kubeedge/edge/images/preload"
                preload.mkdir(parents=True)
                shutil.copy(archive, preload / "demo.tar")
                config = root / "etc/kubeedge/kubeedge.yaml"
                config.parent.mkdir(parents=True)
                config.write_text(json.dumps(edge_config(root, edge.name)))
                token = self.admin("token", "create", "--node", edge.name).strip()
                token_file = BUILD / f"{edge.name}.token"
                token_file.write_text(token)
                start = time.monotonic()
                self.agents[edge.name] = edge.spawn(
                    str(KUBEEDGE), "join", "--token-file", str(token_file), "--name", edge.name,
                    "--root-dir", str(root), "--run", CLOUD_ADDRESS, log=BUILD / f"{edge.name}.log",
                )  # fmt: skip
                at = self.nodes.until(edge.name, ready, timeout=30, what=f"{edge.name} Ready")
                self.report.add("join, from command to Ready", at - start, unit="s", must=10, aim=3)
                self.say(f"{edge.name} is Ready {at - start:.2f} s after `kubeedge join`")
            self.show(self.kubectl("get", "nodes", "-o", "wide"))

    def admin(self, *argv: str) -> str:
        return self.cloud.run(str(KUBEEDGE), *argv, "--socket", str(BUILD / "cloud/run/cloud.sock"))

    # -- 3 -----------------------------------------------------------------------------------------------------------

    def run_workloads(self) -> None:
        with self.step("3. kubectl apply: Deployment, ConfigMap, Service, DaemonSet; containers really run"):
            self.apply(manifests.web("edge1"))
            self.apply(manifests.hello())
            self.apply(manifests.sleeper("sleeper", "edge1", "one"))
            self.kubectl("rollout", "status", "deployment/web", "--timeout=30s")
            self.kubectl("rollout", "status", "daemonset/hello", "--timeout=30s")
            self.kubectl("rollout", "status", "deployment/sleeper", "--timeout=30s")
            self.show(self.kubectl("get", "pods", "-o", "wide"))
            self.web_pod = self.pod_of("web")
            described = self.kubectl("describe", "pod", self.web_pod["metadata"]["name"])
            for word in ("Running", "Started", "pages", "edge1"):
                self.check(word in described, f"kubectl describe says {word!r}")
            logs = self.logs_of(self.web_pod["metadata"]["name"])
            self.check("started" in logs, "kubectl logs brings what the container wrote")
            self._check_isolation()

    def _check_isolation(self) -> None:
        """The web server's process, seen from outside: its own namespaces, and the limits of its manifest."""
        edge = self.edges[0]
        host = {kind: _namespace(edge.pid, kind) for kind in ("net", "mnt", "pid")}
        server = next(p for p in edge.processes() if "httpd" in _cmdline(p) and _namespace(p, "pid") != host["pid"])
        for kind, outside in host.items():
            self.check(_namespace(server, kind) != outside, f"the container has its own {kind} namespace")
        limits = cgroup_limits(server)
        self.check(limits == (32 << 20, 0.5), f"the kernel enforces 32 MiB and half a processor: {limits}")

    # -- 4 -----------------------------------------------------------------------------------------------------------

    def reach_everything(self) -> None:
        with self.step("4. KubeBus: one network, through a TUN, over TLS, through the relay"):
            edge1, edge2 = self.edges
            pod1 = self.web_pod["status"]["podIP"]
            pod2 = self.pod_of("hello", "edge2")["status"]["podIP"]
            raw1 = ping(edge1, CLOUD_ADDRESS)
            raw2 = raw1 + ping(edge2, CLOUD_ADDRESS)
            for name, host, target, raw in (
                ("edge1 -> cloud", edge1, CLOUD_OVERLAY, raw1),
                ("edge1 -> edge2", edge1, EDGE_OVERLAY["edge2"], raw2),
                ("edge1 -> pod on edge2", edge1, pod2, raw2),
                ("cloud -> pod on edge1", self.cloud, pod1, raw1),
            ):
                rtt = ping(host, target)
                self.say(f"ping {name:22} {rtt:6.3f} ms   (raw, same path: {raw:.3f} ms)")
                self.report.add(f"ping {name}", rtt, unit="ms")
                self.report.add(f"ping {name}, raw path", raw, unit="ms")
            page = edge2.run("curl", "-sS", "--max-time", "5", f"http://{pod1}:8080/index.html")
            self.check(page == "hello from the edge\n", "TCP: edge2 fetches a page from the pod on edge1")
            page = self.cloud.run("curl", "-sS", "--max-time", "5", f"http://{pod1}:8080/index.html")
            self.check(page == "hello from the edge\n", "TCP: the cloud fetches it too")

    # -- 5 -----------------------------------------------------------------------------------------------------------

    def publish(self) -> None:
        with self.step("5. a web service behind NAT, published to the internet"):
            url = f"http://{CLOUD_ADDRESS}/{TENANT}/edge1/web"
            self.say(f"internet: curl {url}/index.html")
            until(lambda: self._fetch(f"{url}/index.html") == "hello from the edge\n", timeout=10, what="the page")
            self.check(True, "the page comes from the pod on edge1")
            cloud, agent = _python(self.cloud), _python(self.edges[0])
            before = {p: memory.pss(p) for p in (cloud, agent)}
            for p in before:
                memory.reset_peak(p)
            start = time.monotonic()
            digest = self.internet.run("sh", "-c", 'curl -sS --max-time 50 "$0/big" | sha256sum', url).split()[0]
            took = time.monotonic() - start
            zeros = hashlib.sha256(bytes(100 << 20)).hexdigest()
            self.check(digest == zeros, f"100 MB stream through, intact, in {took:.1f} s")
            self.report.add("100 MB through publish", 100 / took, unit="MB/s", higher=True)
            for name, pid in (("cloud", cloud), ("agent", agent)):
                growth = (memory.peak(pid) - before[pid]) / 2**20
                self.say(f"{name}: peak resident memory while streaming {memory.peak(pid) / 2**20:.0f} MB")
                self.report.add(f"100 MB through publish: growth of the {name}", max(0.0, growth), unit="MB", must=32)

    def _fetch(self, url: str) -> str:
        return self.internet.run("curl", "-sS", "--max-time", "5", url, check=False)

    def use_a_device(self) -> None:
        with (
            self.step("   a Modbus device on edge2 (pymodbus), read and set by kubectl"),
            contextlib.ExitStack() as stack,  # edge2 is to have nothing to do later
        ):
            edge, nat = self.edges[1], self.nats[1]
            self.before_devices()
            device = DemoDevice(edge, self.kubectl, stack)
            took = device.start(BUILD / "device.log")
            self.check(True, f"kubectl shows what the device reports, {took:.2f} s after kubectl apply")
            self.show(self.kubectl("get", "devices", "-o", "wide"))
            samples = [self._set_device(device, target) for target in ("21", "22", "23")]
            self.say(f"kubectl patch -> device -> kubectl get -w: {', '.join(f'{s:.2f}' for s in samples)} s")
            nat.cut()
            asked = device.set("24")
            self.say("the link of edge2 is cut; kubectl patch sets another value meanwhile")
            time.sleep(2)
            self.check(device.shown() == "23", "the cloud shows what the device last had")
            nat.heal()
            self.check(device.has("24") > asked, "the link returns, and the device has the new value")
            self.kubectl("delete", "devices,devicemodels", DEVICE, "--timeout=60s", timeout=90)

    def before_devices(self) -> None:
        """What the API needs for devices; the embedded one has them."""

    def _set_device(self, device: DemoDevice, target: str) -> float:
        asked = device.set(target)
        took = device.has(target) - asked
        self.report.add("kubectl patch -> set on a Modbus device -> reported", took, unit="s", must=5)
        return took

    def more_steps(self, stack: contextlib.ExitStack) -> None:
        """What only another kind of this scenario has. `stack` ends what it starts."""

    # -- figures -----------------------------------------------------------------------------------------------------

    def time_deployments(self) -> None:
        count = 5 if self.quick else 20
        with self.step(f"kubectl apply -> process running, {count} times"):
            samples = []
            for n in range(count):
                name = f"fast{n}"
                start = time.time()
                self.apply(manifests.pod(name, "edge2"))
                self.pods.until(name, ready, timeout=20, what=f"pod {name} Ready")
                samples.append(self.first_line_at(name) - start)
                self.report.add("kubectl apply -> process running", samples[-1], unit="s", must=0.8, aim=0.25)
            self.say(f"p50 {statistics.median(samples):.3f} s, from {min(samples):.3f} to {max(samples):.3f}")
            self.kubectl("delete", "pods", *(f"fast{n}" for n in range(count)))

    def first_line_at(self, pod: str) -> float:
        """time.time() at which the pod's container wrote its first line."""
        return rfc3339(self.logs_of(pod, "--timestamps").split(maxsplit=1)[0])

    def logs_of(self, pod: str, *options: str) -> str:
        """Not empty: a container that runs may have its first line still on its way to the log."""
        until(lambda: bool(self.read_logs(pod, *options)), timeout=10, what=f"the log of {pod}")
        return self.read_logs(pod, *options)

    def read_logs(self, pod: str, *options: str) -> str:
        """As kubectl shows them."""
        return self.kubectl("logs", pod, *options)

    # -- 6 -----------------------------------------------------------------------------------------------------------

    def lose_the_cloud_and_power(self) -> None:
        edge, nat = self.edges[0], self.nats[0]
        with self.step("6. the link of edge1 is cut; its pods keep running"):
            before = {p for p in edge.processes() if "httpd" in _cmdline(p)}
            nat.cut()

        # until the cloud is sure that edge1 is away, edge2 has time for other figures
        self.time_deployments()
        with self.step("   the cloud notices; edge2 has nothing to do meanwhile"):
            idle_bytes, idle_since = interface_bytes(self.edges[1]), time.monotonic()
            self.nodes.until("edge1", lambda n: not ready(n), timeout=90, what="edge1 NotReady")
            idle = (interface_bytes(self.edges[1]) - idle_bytes) / (time.monotonic() - idle_since)
            self.report.add(
                "idle traffic of a node (a short sample)", idle * 86400 / 1e6, unit="MB/day", must=20, aim=5
            )
            self.show(self.kubectl("get", "nodes"))
            self.check(bool(before) and before <= set(edge.processes()), "the web server of edge1 is still running")

        with self.step("   meanwhile in the cloud: a ConfigMap and a Deployment are changed"):
            pages = manifests.configmap("pages", {"index.html": "changed while edge1 was away\n"})
            self.apply(json.dumps(pages))
            self.apply(manifests.sleeper("sleeper", "edge1", "two"))

        with self.step("   power cut: SIGKILL to everything of edge1; then only the agent starts, still without cloud"):
            self.say(f"{edge.power_cut()} processes killed")
            start = time.time()
            root = BUILD / "edge1"
            self.agents["edge1"] = edge.spawn(str(KUBEEDGE), "edge", "--root-dir", str(root), log=BUILD / "edge1.log")
            names = ("web-", "hello-", "sleeper-")
            logs = root / "var/log/pods"
            until(
                lambda: all(started_after(logs, n, start) for n in names),
                timeout=30,
                what="3 pods from the local store",
            )
            took = max(started_after(logs, n, start) for n in names) - start
            self.say(f"3 pods are back from the local store {took:.2f} s after the agent's start")
            self.report.add("agent start without cloud -> 3 pods running", took, unit="s", must=3, aim=1)
            self.check(not ready(self.nodes.newest["edge1"].object), "edge1 is still NotReady in the cloud")

        with self.step("   the link returns"):
            wan = interface_bytes(edge)
            start = time.monotonic()
            nat.heal()
            at = self.nodes.until("edge1", ready, timeout=60, what="edge1 Ready")
            self.report.add("Ready again after the link returns", at - start, unit="s", must=10, aim=2)
            self.say(f"edge1 is Ready {at - start:.2f} s after the link returned")
            url = f"http://{CLOUD_ADDRESS}/{TENANT}/edge1/web/index.html"
            self.kubectl("rollout", "status", "deployment/sleeper", "--timeout=30s")
            pod = self.pod_of("sleeper")["metadata"]["name"]
            self.check("started two" in self.logs_of(pod), "the changed Deployment runs: 'started two'")
            web = self.pod_of("web")["metadata"]["name"]
            self.check(web == self.web_pod["metadata"]["name"], "the web pod is the same pod, with a new container")
            config = self._file_in("edge1", "web", "config/index.html")
            until(
                lambda: "changed while" in config(), timeout=20, what="the changed ConfigMap in the container's volume"
            )
            self.check(True, "the changed ConfigMap is in the running container's volume")
            until(lambda: self._fetch(url) == "hello from the edge\n", timeout=10, what="the page again")
            crossed = interface_bytes(edge) - wan
            synced = self.status("edge1")
            self.say(f"bytes on the wire since the return, everything included: {crossed}")
            self.say(f"sync: {json.dumps(synced.get('sync', {}))}")
            self.report.add("bytes exchanged from the return until all is applied", crossed / 1000, unit="kB")
            status = self.kubectl.json("get", "pod", web)["status"]
            self.check(status["containerStatuses"][0]["restartCount"] >= 1, "the status is up to date: one restart")

    def _file_in(self, node: str, app: str, path: str) -> Callable[[], str]:
        """Reads a file as the container of that app sees it (through its root directory)."""
        edge = next(e for e in self.edges if e.name == node)

        def read() -> str:
            for pid in edge.processes():
                if "httpd" in _cmdline(pid):
                    with contextlib.suppress(OSError):
                        return Path(f"/proc/{pid}/root/{path}").read_text()
            return ""

        return read

    # -- 7 -----------------------------------------------------------------------------------------------------------

    def sum_up(self) -> None:
        with self.step("7. the agent's memory, 3 pods"):
            edge = self.edges[0]
            total = 0
            for pid, name in memory.ours(edge).items():
                size = memory.pss(pid)
                total += size
                self.say(f"{name:12} {size / 2**20:6.1f} MB PSS")
            self.report.add("agent, 3 pods: PSS of everything that is ours", total / 2**20, unit="MB", must=45, aim=30)
            alone = memory.rss(_python(edge)) / 2**20  # nobody to share Python's pages with
            self.report.add("agent, 3 pods: RSS of the agent's process", alone, unit="MB")
            self.show(self.kubectl("get", "nodes"))
            self.show(self.kubectl("get", "pods", "-o", "wide"))

    # -- helpers -----------------------------------------------------------------------------------------------------

    def status(self, node: str) -> dict[str, Any]:
        edge = next(e for e in self.edges if e.name == node)
        socket = BUILD / node / "run/kubeedge/edge.sock"
        answer: dict[str, Any] = json.loads(edge.run(str(KUBEEDGE), "status", "-o", "json", "--socket", str(socket)))
        return answer

    def apply(self, manifest: str) -> None:
        self.kubectl("apply", "-f", "-", input=manifest)

    def pod_of(self, app: str, node: str = "") -> dict[str, Any]:
        """The newest pod of that app that is not being deleted."""
        selector = [f"--field-selector=spec.nodeName={node}"] if node else []
        items = self.kubectl.json("get", "pods", "-l", f"app={app}", *selector)["items"]
        alive = [p for p in items if "deletionTimestamp" not in p["metadata"]]
        assert alive, f"no pod of {app}"
        found: dict[str, Any] = max(alive, key=lambda p: p["metadata"]["creationTimestamp"])
        return found

    def show(self, text: str) -> None:
        print("\n".join(f"             {line}" for line in text.rstrip().splitlines()), flush=True)

    def _died(self, process: subprocess.Popen[bytes]) -> bool:
        if process.poll() is not None:
            raise AssertionError(f"a process ended with status {process.returncode}")
        return False

    def _show_logs(self) -> None:
        for log in sorted(BUILD.glob("*.log")):
            print(f"\n--- the end of {log.relative_to(ROOT)}")
            print("\n".join(log.read_text(errors="replace").splitlines()[-25:]))

    def _remove_cgroups(self) -> None:
        """cgroups are not namespaced: what a killed agent could not remove is removed here, by the demo's own prefix."""
        for node in EDGE_OVERLAY:
            for group in sorted(Path("/sys/fs/cgroup").glob(f"**/{cgroup_prefix(node)}/"), reverse=True):
                for path in sorted(group.rglob("*/"), reverse=True):
                    with contextlib.suppress(OSError):
                        path.rmdir()
                with contextlib.suppress(OSError):
                    group.rmdir()

    def _keep(self) -> None:
        wrapper = BUILD / "kubectl"
        inside = " ".join(self.kubectl.host.command(*self.kubectl.argv()))
        wrapper.write_text(f'#!/bin/sh\nexec {inside} "$@"\n')
        wrapper.chmod(0o755)
        shell = " ".join(self.internet.command())
        print(f"\nkubeconfig  {self.kubectl.kubeconfig}   (the API listens inside the cloud host)")
        print(f"kubectl     {wrapper} get pods -o wide")
        print(f"published   {shell} curl http://{CLOUD_ADDRESS}/{TENANT}/edge1/web/index.html")
        print(f"on edge1    {' '.join(self.edges[0].command('sh'))}")
        print(
            f"            {KUBEEDGE} links --socket {BUILD / 'edge1/run/kubeedge/edge.sock'}   (also ping, routes, sync status)"
        )
        print("Ctrl-C ends and removes everything.", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


def cloud_config(root: Path) -> dict[str, Any]:
    return {
        "apiVersion": "cloud.kubeedge.io/v1alpha1",
        "kind": "CloudCore",
        "paths": {"state": str(root / "state"), "run": str(root / "run")},
        "advertise": [CLOUD_ADDRESS],
        "listeners": {"web": {"port": 80}},
        "nodeMonitorGracePeriod": 2,  # after the 27 s of silence that end a channel; the demo need not wait longer
    }


def edge_config(root: Path, node: str) -> dict[str, Any]:
    """Several agents on one machine: each below its own root, with a cgroup prefix of its own."""
    return {
        "apiVersion": "edge.kubeedge.io/v1alpha1",
        "kind": "EdgeCore",
        "paths": {
            "state": str(root / "var/lib/kubeedge/edge"),
            "run": str(root / "run/kubeedge"),
            "pki": str(root / "etc/kubeedge/pki"),
            "logs": str(root / "var/log/pods"),
        },
        "modules": {
            "appengine": {"cgroupPrefix": cgroup_prefix(node), "evictionHard": ["none"]},
            "devices": {"enable": node == "edge2"},  # edge1's memory is that of the default modules
        },
    }


def cgroup_prefix(node: str) -> str:
    return f"kubeedge-demo-{node}"


def ping(host: Host, address: str) -> float:
    """Median of ten, milliseconds; the first is left out (it resolves neighbours)."""
    out = host.run("ping", "-n", "-c11", "-i0.02", "-W2", address)
    times = [float(t) for t in re.findall(r"time=([\d.]+)", out)]
    assert len(times) == 11, f"ping {address}: {len(times)} of 11 answers"
    return statistics.median(times[1:])


def interface_bytes(host: Host) -> int:
    """Bytes in both directions on the host's uplink."""
    stats = json.loads(host.run("ip", "-s", "-j", "link"))
    uplink = next(link for link in stats if link["ifname"].startswith("veth") and "master" not in link)
    return int(uplink["stats64"]["rx"]["bytes"] + uplink["stats64"]["tx"]["bytes"])


def rfc3339(stamp: str) -> float:
    import datetime

    seconds, _, rest = stamp.partition(".")
    fraction = re.match(r"\d*", rest)
    whole = datetime.datetime.fromisoformat(seconds.rstrip("Z") + "+00:00").timestamp()
    return whole + float(f"0.{fraction.group() or 0}" if fraction else 0)


def started_after(logs: Path, pod: str, since: float) -> float:
    """time.time() of the first line that a container of this pod wrote after `since`; 0.0 when there is none."""
    newest = 0.0
    for log in logs.glob(f"*{pod}*/*/*.log"):
        with contextlib.suppress(OSError, IndexError):
            at = rfc3339(log.read_text().split(maxsplit=1)[0])
            if at > since:
                newest = max(newest, at)
    return newest


def cgroup_limits(pid: int) -> tuple[int, float]:
    """(memory in bytes, processors) that the kernel enforces on this process."""
    groups = dict(line.split(":", 2)[1:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
    if "memory" in groups:
        cpu = Path("/sys/fs/cgroup/cpu") / groups["cpu"].lstrip("/")
        limit = Path("/sys/fs/cgroup/memory") / groups["memory"].lstrip("/") / "memory.limit_in_bytes"
        quota = int((cpu / "cpu.cfs_quota_us").read_text()) / int((cpu / "cpu.cfs_period_us").read_text())
        return int(limit.read_text()), quota
    group = Path("/sys/fs/cgroup") / groups[""].lstrip("/")
    quota_us, period_us = (group / "cpu.max").read_text().split()
    return int((group / "memory.max").read_text()), int(quota_us) / int(period_us)


def _cmdline(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def _namespace(pid: int, kind: str) -> str:
    with contextlib.suppress(OSError):
        return str(Path(f"/proc/{pid}/ns/{kind}").readlink())
    return ""


def _python(host: Host) -> int:
    """The agent's, or the cloud's, main process: the one that has lived longest."""
    return min(p for p, name in memory.ours(host).items() if name.startswith(("python", "kubeedge")))


__all__ = ["Scenario", "Watch"]
