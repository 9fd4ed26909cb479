"""A cluster that refuses, is slow, loses its history or has another time of day: nothing ends, and what is wrong is said."""

from __future__ import annotations

import base64
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kubeedge.api import meta
from tests.kit.clock import YEAR, WallClock
from tests.kit.cluster import rights, webhook
from tests.kit.cluster.site import Site
from tests.kit.topology import until
from tests.kubernetes.workloads import eventually, pod, ready, runs, wait_ready

pytestmark = pytest.mark.root

ADMISSION = "admissionregistration.k8s.io/v1"
HOUR = 3600
PROXY, HOOK = 7000, 7100  # ports


@pytest.fixture(scope="module")
def steady(site: Site) -> Iterator[Callable[[], bool]]:
    """A pod from before; tells whether it still runs as it did."""
    site.cluster.apply(pod("steady", command="exec sleep 94123"))
    uid = wait_ready(site, "steady")["metadata"]["uid"]

    def is_as_it_was() -> bool:
        found = site.cluster.json("get", "pod", "steady")
        (container,) = found["status"]["containerStatuses"]
        return found["metadata"]["uid"] == uid and container["restartCount"] == 0 and runs(site, "edge1", b"94123")

    yield is_as_it_was
    site.cluster.kubectl("delete", "pod", "steady", timeout=150)


def log(site: Site) -> str:
    return (site.directory / "cloud.log").read_text(errors="replace")


def comes_and_goes(site: Site, name: str) -> None:
    """There is a way to the node and back."""
    site.cluster.apply(pod(name))
    site.cluster.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=120s", timeout=150)
    site.cluster.kubectl("delete", "pod", name, timeout=120)


def renewed(site: Site) -> str:
    return str(site.cluster.json("get", "lease", "edge1", "-n", "kube-node-lease")["spec"]["renewTime"])


def test_a_policy_that_refuses_what_nodes_say_is_named_and_what_they_said_comes_later(
    site: Site, steady: Callable[[], bool]
) -> None:
    rules = [
        {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
         "resources": ["pods/status", "nodes/status", "events"]},
    ]  # fmt: skip
    policy = {
        "failurePolicy": "Fail", "matchConstraints": {"resourceRules": rules},
        "matchConditions": [{"name": "nodes", "expression": "request.userInfo.username.startsWith('system:node:')"}],
        "validations": [{"expression": "false", "message": "nodes have to be silent"}],
    }  # fmt: skip
    site.cluster.apply(
        {"apiVersion": ADMISSION, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "mute"}, "spec": policy},
        {"apiVersion": ADMISSION, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": "mute"},
         "spec": {"policyName": "mute", "validationActions": ["Deny"]}},
    )  # fmt: skip
    said = len(log(site))
    number = 94200

    def is_refused() -> bool:
        """By a new pod each time: a policy counts a moment after it was made."""
        nonlocal number
        number += 1
        site.cluster.apply(pod(f"muted-{number}", command=f"exec sleep {number}"))
        until(lambda: runs(site, "edge1", str(number).encode()), timeout=60, what="it runs all the same")
        return "nodes have to be silent" in log(site)[said:]

    until(is_refused, timeout=120, what="the cloud says what the policy says", interval=1.0)
    # what was refused may be an Event of a pod whose status came just before; of the next one everything is
    said = len(log(site))
    until(is_refused, timeout=120, what="the cloud says it of another pod", interval=1.0)
    assert site.cluster.json("get", "pod", f"muted-{number}")["status"]["phase"] == "Pending"
    site.cluster.kubectl("delete", "validatingadmissionpolicy,validatingadmissionpolicybinding", "mute")
    for n in range(94201, number + 1):
        site.cluster.kubectl("wait", "--for=condition=Ready", f"pod/muted-{n}", "--timeout=120s", timeout=150)
        site.cluster.kubectl("delete", "pod", f"muted-{n}", timeout=150)
    assert steady()


class Hooked:
    """What nodes say of themselves, of their pods and in Events goes by an admission webhook."""

    def __init__(self, site: Site) -> None:
        self.site, self.mode = site, site.directory / "webhook"
        self.mode.write_text("")
        authority = site.cluster.identities.cluster
        own = authority.issue("webhook", hosts=["127.0.0.1"], file="webhook")
        config = {"listen": HOOK, "cert": str(own.cert), "key": str(own.key), "mode": str(self.mode)}
        log = site.directory / "webhook.log"
        self.process = site.cloud.spawn(
            sys.executable, "-m", "tests.kit.cluster.webhook", json.dumps(config),
            log=log, env={"PYTHONPATH": str(Path(__file__).parents[2])},
        )  # fmt: skip
        until(lambda: "ready" in log.read_text(), what="the webhook's server")
        site.cluster.apply(
            self._configuration("Validating", authority.ca, "pods/status", "nodes/status", "events"),
            self._configuration("Mutating", authority.ca, "pods/status", "nodes/status"),
        )

    @staticmethod
    def _configuration(kind: str, ca: Path, *resources: str) -> dict[str, Any]:
        rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": resources}
        path = "mutate" if kind == "Mutating" else "validate"
        hook = {
            "name": "nodes.example.com", "rules": [rule], "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "failurePolicy": "Fail", "timeoutSeconds": 10,
            "clientConfig": {
                "url": f"https://127.0.0.1:{HOOK}/{path}", "caBundle": base64.b64encode(ca.read_bytes()).decode(),
            },
            "matchConditions": [{"name": "nodes", "expression": "request.userInfo.username.startsWith('system:node:')"}],
        }  # fmt: skip
        name = {"name": "nodes.example.com"}
        return {"apiVersion": ADMISSION, "kind": f"{kind}WebhookConfiguration", "metadata": name, "webhooks": [hook]}

    def become(self, mode: str) -> None:
        new = self.mode.with_suffix(".new")
        new.write_text(mode)
        new.replace(self.mode)

    def asked(self, resource: str) -> int:
        counts = Path(f"{self.mode}.counts")
        return int(json.loads(counts.read_text()).get(resource, 0)) if counts.exists() else 0

    def end(self) -> None:
        both = "validatingwebhookconfiguration,mutatingwebhookconfiguration"
        self.site.cluster.kubectl("delete", both, "nodes.example.com")
        self.site.cloud.stop(self.process, timeout=60)


@pytest.fixture
def hooked(site: Site) -> Iterator[Hooked]:
    found = Hooked(site)
    yield found
    found.end()


def test_webhooks_that_refuse_hang_lie_and_change_what_nodes_say_lose_nothing(
    site: Site, hooked: Hooked, steady: Callable[[], bool]
) -> None:
    names: list[str] = []

    def says(text: str) -> bool:
        """By a new pod each time: a webhook is asked a moment after it was made."""
        number = 94300 + len(names)
        names.append(f"hooked-{number}")
        site.cluster.apply(pod(names[-1], command=f"exec sleep {number}"))
        until(lambda: runs(site, "edge1", str(number).encode()), what="it runs all the same")
        return text in log(site)[before:]

    for mode, text in (
        ("refuse", webhook.MESSAGE),
        ("broken", 'no kind "Pod" is registered'),
        ("hang", "context deadline exceeded"),
    ):
        before = len(log(site))
        hooked.become(mode)
        until(lambda text=text: says(text), timeout=120, what=f"the cloud says {text}", interval=1.0)  # type: ignore[misc]
        assert site.cluster.json("get", "pod", names[-1])["status"]["phase"] == "Pending"
    for _ in range(2):  # while it hangs: the Leases are not behind what does
        renewed_since(site)
        assert ready(site, "edge1") == ready(site, "edge2") == "True"

    hooked.become("mark")
    for name in names:
        site.cluster.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=120s", timeout=150)
    eventually(lambda: "Started" in {event["reason"] for event in events(site, names[-1])}, "what hung is told")
    wrong = json.dumps({"status": {"addresses": [{"type": "Hostname", "address": "by-hand"}]}})
    site.cluster.kubectl("patch", "node", "edge1", "--subresource=status", "--type=merge", "-p", wrong)
    eventually(lambda: webhook.CONDITION in conditions(site, "node", "edge1"), "the webhook's own word stays")
    assert webhook.CONDITION in conditions(site, "pod", names[-1])

    def is_settled() -> bool:
        """What was held up, and what is by hand, is written first."""
        asked = hooked.asked("nodes/status")
        renewed_since(site)
        return hooked.asked("nodes/status") - asked <= 4

    eventually(is_settled, "what a webhook adds is not written against")
    site.cluster.kubectl("delete", "pod", *names, timeout=150)
    assert steady()


def conditions(site: Site, kind: str, name: str) -> set[str]:
    return {condition["type"] for condition in site.cluster.json("get", kind, name)["status"].get("conditions") or ()}


def events(site: Site, name: str) -> list[dict[str, Any]]:
    """Of that pod, by its node."""
    found = site.cluster.json("get", "events", f"--field-selector=involvedObject.name={name},source=kubelet")
    return list(found["items"])


def test_an_edge_whose_clock_is_hours_off_loses_no_event(
    site: Site, steady: Callable[[], bool], tmp_path: Path
) -> None:
    """Set back and set ahead while it is attached: by a clock that is that far behind the cloud's certificate would not count yet."""
    clock = WallClock(tmp_path / "edge.clock")
    site.stop_agent("edge1")
    site.start_agent("edge1", env=clock.env)

    def started(name: str, times: int) -> bool:
        found = [event for event in events(site, name) if event["reason"] == "Started"]
        return bool(sum(event["count"] for event in found) >= times)

    site.cluster.apply(pod("before", command="exec sleep 94126"))
    wait_ready(site, "before")  # it is attached
    clock.set(-3 * HOUR)
    site.cluster.apply(pod("restarting", command="sleep 1"))
    until(lambda: started("restarting", 2), timeout=180, what="told, and counted", interval=1.0)
    clock.set(3 * HOUR)
    site.cluster.apply(pod("ahead", command="exec sleep 94125"))
    wait_ready(site, "ahead")
    until(lambda: started("ahead", 1), timeout=180, what="told", interval=1.0)
    for event in events(site, "ahead"):
        assert event["lastTimestamp"] <= meta.timestamp(time.time()), "nothing has happened after now"
    site.cluster.kubectl("delete", "pod", "before", "restarting", "ahead", timeout=150)
    site.stop_agent("edge1")
    site.start_agent("edge1")
    eventually(lambda: ready(site, "edge1") == "True", "Ready")
    assert steady()


class Proxied:
    """The cloud reaches its cluster by way of a faulty server, with a token."""

    def __init__(self, site: Site) -> None:
        self.site, self.mode = site, site.directory / "fault"
        cluster, identities = site.cluster, site.cluster.identities
        self.mode.write_text("")
        config = {
            "listen": PROXY, "cert": str(identities.api.cert), "key": str(identities.api.key),
            "ca": str(identities.cluster.ca), "server": ["127.0.0.1", 6443], "mode": str(self.mode),
        }  # fmt: skip
        root = str(Path(__file__).parents[2])
        self.process = site.cloud.spawn(
            sys.executable, "-m", "tests.kit.cluster.faulty_proxy", json.dumps(config),
            log=site.directory / "faulty_proxy.log", env={"PYTHONPATH": root},
        )  # fmt: skip
        cluster.kubectl("create", "serviceaccount", rights.ACCOUNT)
        cluster.kubectl(
            "create", "clusterrolebinding", "by-token", f"--clusterrole={rights.ACCOUNT}",
            f"--serviceaccount=default:{rights.ACCOUNT}",
        )  # fmt: skip
        token = cluster.kubectl("create", "token", rights.ACCOUNT, "--duration=3h").strip()
        self.kubeconfig, self.right = site.kubeconfig(), site.kubeconfig().read_bytes()
        self.lead_to(
            identities.write_kubeconfig(
                "kubeconfig-faulty", {"token": token}, server=f"https://127.0.0.1:{PROXY}"
            ).read_bytes()
        )

    def lead_to(self, content: bytes) -> None:
        """As an editor replaces a file."""
        new = self.kubeconfig.with_suffix(".new")
        new.write_bytes(content)
        new.replace(self.kubeconfig)

    def become(self, mode: str) -> None:
        new = self.mode.with_suffix(".new")
        new.write_text(mode)
        new.replace(self.mode)

    def counts(self) -> dict[str, int]:
        try:
            return dict(json.loads(Path(f"{self.mode}.counts").read_text()))
        except (FileNotFoundError, ValueError):  # it is being written
            return {}

    def end(self) -> None:
        self.lead_to(self.right)
        eventually(lambda: renewed_since(self.site), "the way without it")
        self.site.cloud.stop(self.process, timeout=60)
        self.site.cluster.kubectl("delete", "clusterrolebinding", "by-token")
        self.site.cluster.kubectl("delete", "serviceaccount", rights.ACCOUNT)


def renewed_since(site: Site) -> bool:
    before = renewed(site)
    eventually(lambda: renewed(site) > before, "a renewal of the Lease")  # a cloud may wait after what has failed
    return True


@pytest.fixture(scope="module")
def proxied(site: Site) -> Iterator[Proxied]:
    found = Proxied(site)
    eventually(lambda: found.counts().get("lists", 0) >= 3, "the cloud goes by the proxy")
    yield found
    found.end()


def test_an_api_server_whose_history_is_always_gone_is_listed_again_and_not_all_the_time(
    proxied: Proxied, steady: Callable[[], bool]
) -> None:
    site = proxied.site
    proxied.become("expired")
    eventually(lambda: proxied.counts().get("expired", 0) > 0, "a watch is refused")
    comes_and_goes(site, "relisted")
    assert ready(site, "edge1") == "True" and steady()
    # six kinds are watched: with 410 for each watch, the back-off of a list is 30 s soon
    before = proxied.counts()
    renewed_since(site)  # 13 s
    after = proxied.counts()
    assert after["expired"] - before["expired"] <= 40, (before, after)
    proxied.become("")
    comes_and_goes(site, "watched")


def test_an_api_server_that_takes_five_seconds_for_each_answer_is_waited_for(
    proxied: Proxied, steady: Callable[[], bool]
) -> None:
    site = proxied.site
    proxied.become("slow 5")
    renewed_since(site)
    comes_and_goes(site, "patient")
    assert ready(site, "edge1") == "True" and steady()
    proxied.become("")


def test_an_api_server_that_hangs_up_is_named_and_found_again(proxied: Proxied, steady: Callable[[], bool]) -> None:
    site = proxied.site
    said = len(log(site))
    proxied.become("away")
    eventually(lambda: "the connection to the API server broke" in log(site)[said:] or f"127.0.0.1:{PROXY}" in log(site)[said:], "it is said")  # fmt: skip
    assert steady()
    proxied.become("")
    comes_and_goes(site, "found-again")
    eventually(lambda: ready(site, "edge1") == "True", "Ready")


def test_clocks_that_are_hours_apart_change_nothing_and_years_are_named(
    site: Site, steady: Callable[[], bool], tmp_path: Path
) -> None:
    """The API server's is right; the cloud's is ahead, is set back, and is in another decade when it starts."""
    clock = WallClock(tmp_path / "cloud.clock")
    tenants = [f"default={site.kubeconfig()}"]
    clock.set(3 * HOUR)
    site.stop_cloud()
    site.start_cloud(tenants, env=clock.env)
    where = "/var/run/secrets/kubernetes.io/serviceaccount/token"
    site.cluster.apply(pod("timely", command="exec sleep 94124"))
    wait_ready(site, "timely")
    token = site.cluster.kubectl("exec", "timely", "--", "cat", where)
    assert authenticated(site, token)
    clock.set(-2 * HOUR)
    renewed_since(site)  # a Lease that went back would be one that is not renewed
    clock.set(0)
    assert ready(site, "edge1") == "True" and steady()
    assert authenticated(site, site.cluster.kubectl("exec", "timely", "--", "cat", where))

    said = len(log(site))
    site.stop_cloud()
    clock.set(20 * YEAR)
    site.start_cloud(tenants, env=clock.env)
    eventually(lambda: "is the clock of this machine right?" in log(site)[said:], "why the cluster is not reached")
    assert runs(site, "edge1", b"94123") and runs(site, "edge1", b"94124")
    clock.set(0)
    until(lambda: ready(site, "edge1") == "True", timeout=180, what="Ready, without a restart", interval=1.0)
    renewed_since(site)
    comes_and_goes(site, "on-time")
    assert steady()
    site.cluster.kubectl("delete", "pod", "timely", timeout=150)


def authenticated(site: Site, token: str) -> bool:
    review: dict[str, Any] = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token.strip()},
    }
    answer = json.loads(site.cluster.kubectl("create", "-f", "-", "-o", "json", input=json.dumps(review)))
    return bool(answer["status"].get("authenticated"))


def test_names_that_no_object_has_are_the_affair_of_their_pod(site: Site, steady: Callable[[], bool]) -> None:
    """An API server takes any text for them, and neither it nor we look for some: that ended what the cloud does for all nodes, again and again."""
    said = len(log(site))
    odd = pod("odd")
    odd["spec"]["volumes"] = [
        {"name": "a", "secret": {"secretName": "a,b"}},
        {"name": "b", "secret": {"secretName": ".."}},
        {"name": "c", "configMap": {"name": "x=y"}},
        {"name": "d", "configMap": {"name": "z" * 20_000}},
        {"name": "e", "persistentVolumeClaim": {"claimName": ".."}},
        {"name": "f", "persistentVolumeClaim": {"claimName": "a/b"}},
    ]
    odd["spec"] |= {"imagePullSecrets": [{"name": ""}], "nodeName": "edge1"}
    site.cluster.apply(odd)
    for name in ("metadata.name=a,b", "persistentvolumeclaims default/..: '..' is not the name of an object"):
        eventually(lambda name=name: name in log(site)[said:], f"{name} is said")  # type: ignore[misc]
    comes_and_goes(site, "beside-odd")
    before = renewed(site)
    eventually(lambda: renewed(site) > before, "the Lease is renewed")
    assert "it starts again" not in log(site)[said:]
    site.cluster.kubectl("delete", "pod", "odd", timeout=150)
    assert steady()
