"""Devices and rules in a cluster of a user's own: v1alpha2 by the webhook of the cloud, methods and rules by its port, and what a node sends to a REST
endpoint; a real API server, cloud, agent, broker and mapper."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kit.cluster import rights
from tests.kit.cluster.site import ADDRESS, KUBEEDGE, Site
from tests.kit.topology import CommandFailed, until

pytestmark = pytest.mark.root

ROOT = Path(__file__).resolve().parents[2]
OLD = ROOT / "tests/unit/devices/manifests/v1alpha2.yaml"
DEFINITIONS = ("devices.devices", "devicemodels.devices", "rules.rules", "ruleendpoints.rules")
PORT, TARGET = 10004, 8090
URL = "http://orders.example/"
OBJECTS = f"""
apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {{name: oven}}
spec:
  protocol: virtual
  properties:
  - {{name: target, type: INT, maximum: "30"}}
---
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {{name: oven}}
spec:
  deviceModelRef: {{name: oven}}
  nodeName: edge1
  protocol: {{protocolName: virtual}}
  methods: [{{name: heat, propertyNames: [target]}}]
---
apiVersion: rules.kubeedge.io/v1
kind: RuleEndpoint
metadata: {{name: rest}}
spec: {{ruleEndpointType: rest}}
---
apiVersion: rules.kubeedge.io/v1
kind: RuleEndpoint
metadata: {{name: bus}}
spec: {{ruleEndpointType: eventbus}}
---
apiVersion: rules.kubeedge.io/v1
kind: RuleEndpoint
metadata: {{name: service}}
spec: {{ruleEndpointType: servicebus, properties: {{service_port: "9060"}}}}
---
apiVersion: rules.kubeedge.io/v1
kind: Rule
metadata: {{name: bell}}
spec: {{source: rest, sourceResource: {{path: /bell}}, target: bus, targetResource: {{topic: default/echo}}}}
---
apiVersion: rules.kubeedge.io/v1
kind: Rule
metadata: {{name: alarms}}
spec:
  source: bus
  sourceResource: {{topic: "echo/#", node_name: edge1}}
  target: rest
  targetResource: {{resource: "http://{ADDRESS}:{TARGET}/alarms"}}
---
apiVersion: rules.kubeedge.io/v1
kind: Rule
metadata: {{name: orders}}
spec:
  source: service
  sourceResource: {{target_url: "{URL}", node_name: edge1}}
  target: rest
  targetResource: {{resource: "http://{ADDRESS}:{TARGET}/orders"}}
"""
SINK = f"""
import http.server, json, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        with open(sys.argv[1], "a") as found:
            print(json.dumps([self.path, body]), file=found, flush=True)
        self.send_response(204)
        self.end_headers()
    def log_message(self, *arguments):
        pass
http.server.ThreadingHTTPServer(("{ADDRESS}", {TARGET}), Handler).serve_forever()
"""
PUBLISH = """
import paho.mqtt.publish as publish, sys
publish.multiple([("default/echo/x", text, 1) for text in sys.argv[1:]], hostname="127.0.0.1")
"""
ORDER = f"""
import json, urllib.request
body = json.dumps({{"method": "POST", "targetURL": "{URL}", "payload": "two"}}).encode()
print(urllib.request.urlopen("http://127.0.0.1:9060/", body, 20).status)
"""
ASK = """
import ssl, sys, urllib.error, urllib.request
url, ca, token, body = sys.argv[1:]
request = urllib.request.Request(url, body.encode() or None, {"authorization": "Bearer " + token})
try:
    answer = urllib.request.urlopen(request, context=ssl.create_default_context(cafile=ca), timeout=30)
except urllib.error.HTTPError as exc:
    answer = exc
print(answer.status, answer.read().decode())
"""


@pytest.fixture(scope="module")
def devices(_site: Site, _own_objects: None) -> Iterator[Site]:
    """The definitions, and a cloud that answers for them."""
    cluster = _site.cluster
    cluster.apply(*rights.objects(rights.DEVICES))
    cluster.kubectl("apply", "-f", str(ROOT / "cloud/crds"))
    for name in DEFINITIONS:
        cluster.kubectl("wait", "--for=condition=Established", f"crd/{name}.kubeedge.io", "--timeout=60s", timeout=90)
    _start(_site)
    yield _site
    _site.stop_cloud()
    cluster.kubectl("delete", "-f", str(ROOT / "cloud/crds"), "--wait=false")
    cluster.apply(*rights.objects())


def _start(site: Site) -> None:
    more = {
        "listeners": {"api": {"port": 7443}, "web": {"port": 80}, "clusters": {"enable": True, "port": PORT}},
        "rules": {"allowedTargets": [f"{ADDRESS}/32"]},
    }
    site.start_cloud([f"default={site.kubeconfig()}"], more=more)


def _webhook(site: Site) -> dict[str, Any]:
    crd = site.cluster.json("get", "crd", "devices.devices.kubeedge.io")
    config: dict[str, Any] = crd["spec"]["conversion"]["webhook"]["clientConfig"]
    return config


def _refusal(site: Site, *arguments: str) -> str:
    """What kubectl said when it failed; "": it has not."""
    try:
        site.cluster.kubectl(*arguments)
    except CommandFailed as exc:
        return str(exc)
    return ""


def _as_it_was(site: Site, obj: dict[str, Any]) -> bool:
    kind = f"{obj['kind'].lower()}s.v1alpha2.devices.kubeedge.io"
    found = site.cluster.json("get", kind, obj["metadata"]["name"])
    return all(found.get(part) == obj.get(part) for part in ("spec", "status"))


def test_devices_of_v1alpha2_are_applied_and_read_by_way_of_the_cloud(devices: Site) -> None:
    kubectl = devices.cluster.kubectl
    until(lambda: "caBundle" in _webhook(devices), what="the webhook's address")
    assert _webhook(devices)["url"] == f"https://{ADDRESS}:{PORT}/convert/devices.kubeedge.io"
    old = list(yaml.safe_load_all(OLD.read_text()))
    until(lambda: not _refusal(devices, "apply", "-f", str(OLD)), what="the old manifests")
    for obj in old:
        assert _as_it_was(devices, obj), obj["metadata"]["name"]
    name = next(obj["metadata"]["name"] for obj in old if obj["kind"] == "Device")
    stored = devices.cluster.json("get", "devices.v1beta1.devices.kubeedge.io", name)
    assert stored["apiVersion"] == "devices.kubeedge.io/v1beta1" and "nodeSelector" not in stored["spec"]
    kubectl("patch", "device", name, "--type=merge", "-p", '{"metadata": {"labels": {"seen": "yes"}}}')
    shown = devices.cluster.json("get", "devices.v1alpha2.devices.kubeedge.io", "-l", "seen=yes")["items"]
    assert [one["metadata"]["name"] for one in shown] == [name]
    devices.stop_cloud()
    try:
        assert name in kubectl("get", "devices"), "what is stored needs no cloud"
        assert "conversion webhook" in _refusal(devices, "get", "devices.v1alpha2.devices.kubeedge.io", name)
    finally:
        _start(devices)
    until(lambda: not _refusal(devices, "get", "devices.v1alpha2.devices.kubeedge.io", name), what="the webhook again")
    kubectl("delete", "-f", str(OLD), "--wait=false")


def test_the_api_server_refuses_rules_that_are_none(devices: Site) -> None:
    def refused(spec: dict[str, Any], kind: str = "RuleEndpoint") -> str:
        obj = {"apiVersion": "rules.kubeedge.io/v1", "kind": kind, "metadata": {"name": "bad"}, "spec": spec}
        with pytest.raises(RuntimeError) as caught:
            devices.cluster.apply(obj)
        return str(caught.value)

    assert "service_port must be a port" in refused({"ruleEndpointType": "servicebus"})
    port = {"service_port": "65536"}
    assert "service_port must be a port" in refused({"ruleEndpointType": "servicebus", "properties": port})
    assert "Unsupported value" in refused({"ruleEndpointType": "smtp"})
    assert "sourceResource" in refused({"source": "a", "target": "b", "targetResource": {"topic": "x"}}, "Rule")


def test_methods_and_rules_both_ways_in_a_cluster_of_ones_own(devices: Site) -> None:
    site, kubectl = devices, devices.cluster.kubectl
    sink_file = site.directory / "sink.jsonl"
    sink = site.cloud.spawn(sys.executable, "-c", SINK, str(sink_file), log=site.directory / "sink.log")
    kubectl("apply", "-f", "-", input=OBJECTS)
    fresh = "edge1" not in site.agents
    settings = {"devices": {"enable": True, "rules": True, "serviceBus": "127.0.0.1:9060"}}
    if fresh:
        site.join("edge1", modules=settings)
    else:
        config = site.directory / "edge1/etc/kubeedge/kubeedge.yaml"
        before = config.read_text()
        value = yaml.safe_load(before)
        value["modules"].update(settings)
        config.write_text(json.dumps(value))
        site.stop_agent("edge1")
        site.start_agent("edge1")
    edge = site.edges["edge1"]
    mapper = edge.spawn(*KUBEEDGE, "mapper", "virtual", log=site.directory / "mapper.log")
    kubectl("create", "serviceaccount", "app")
    kubectl("create", "role", "app", "--verb=create", "--resource=rules.rules.kubeedge.io")
    kubectl("create", "role", "caller", "--verb=create,get", "--resource=devices.devices.kubeedge.io/methods")
    for role in ("app", "caller"):
        kubectl("create", "rolebinding", role, f"--role={role}", "--serviceaccount=default:app")
    token = kubectl("create", "token", "app").strip()
    ca = str(site.directory / "state/pki/ca.crt")

    def ask(path: str, body: str, by: str = token) -> str:
        return site.internet.run(sys.executable, "-c", ASK, f"https://{ADDRESS}:{PORT}{path}", ca, by, body)

    def got(path: str) -> list[str]:
        lines = sink_file.read_text().splitlines() if sink_file.exists() else []
        return [body for where, body in map(json.loads, lines) if where == path]

    try:
        methods = "/devices/default/default/oven/methods"
        call = json.dumps({"parameters": {"target": 25}})
        until(lambda: ask(f"{methods}/heat", call).startswith("200 "), what="a method that is performed")
        assert ask(f"{methods}/heat", json.dumps({"parameters": {"target": 31}})).startswith("400 ")
        assert '"heat"' in ask(methods, "")
        assert ask(f"{methods}/heat", call, "none").startswith("401 ")
        assert ask("/rules/default/edge1/kube-system/bell", "x").startswith("403 ")
        assert ask("/rules/default/edge1/default/bell/x", "ding") == "200 message delivered\n"
        until(
            lambda: (site.cluster.json("get", "rule", "bell").get("status") or {}).get("successMessages") == 1,
            what="the count of the call",
        )

        def publishes(text: str) -> bool:
            edge.run(sys.executable, "-c", PUBLISH, text)
            return text in got("/alarms")

        until(lambda: publishes("first"), what="a rule that reads")
        site.stop_cloud()  # line, log and rules are away
        edge.run(sys.executable, "-c", PUBLISH, *map(str, range(50)))
        assert edge.run(sys.executable, "-c", ORDER).strip() == "202"
        _start(site)
        until(lambda: got("/alarms")[-1:] == ["49"] and got("/orders") == ["two"], what="what waited on the node")
        numbers = [text for text in got("/alarms") if text.isdigit()]
        assert numbers == list(map(str, range(50))), "each once, in order: nothing died in between"
        until(
            lambda: (site.cluster.json("get", "rule", "orders").get("status") or {}).get("successMessages") == 1,
            what="the count of the request",
        )
        said = edge.run(sys.executable, "-c", ORDER).strip()
        assert said == "200", "what the endpoint answers has come back"
    finally:
        for host, process in ((edge, mapper), (site.cloud, sink)):
            host.signal(process, signal.SIGTERM)
            process.wait(90)
        if not fresh:
            site.stop_agent("edge1")
            config.write_text(before)
            site.start_agent("edge1")
