"""From kubectl to a device and back: real cloud, real agent, a mapper on MQTT (Eclipse Paho), a cut and a kill -9 in between."""

from __future__ import annotations

import json
import signal
import sys
from typing import Any

import pytest

from tests.kit.topology import CommandFailed, until
from tests.kubectl.test_devices import DEVICE, MODEL
from tests.netns.test_join import Site, site  # noqa: F401
from tests.netns.test_node_conditions import uplink_of

pytestmark = pytest.mark.root

TOPIC = "$hw/events/device/default/hall"
GET = f"""
import paho.mqtt.client as m, queue
from paho.mqtt.enums import CallbackAPIVersion
found = queue.Queue()
c = m.Client(CallbackAPIVersion.VERSION2)
c.on_subscribe = lambda c, u, mid, codes, p: c.publish("{TOPIC}/twin/get", b"{{}}", 1)
c.on_message = lambda c, u, message: found.put(message.payload)
c.connect("127.0.0.1", 1883)
c.loop_start()
c.subscribe("{TOPIC}/twin/get/result", 1)
print(found.get(timeout=20).decode())
c.disconnect()
"""
REPORT = f"""
import paho.mqtt.publish as publish, sys
publish.multiple([("{TOPIC}/twin/update", update, 1) for update in sys.argv[1:]], hostname="127.0.0.1")
"""

UPLOAD = """
import paho.mqtt.publish as publish, sys
publish.multiple([("SYS/dis/upload_records", text, 1) for text in sys.argv[1:]], hostname="127.0.0.1")
"""

SERVICE = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    said = []
    def do_POST(self):
        self.said.append(self.rfile.read(int(self.headers["content-length"])).decode())
        self.send_response(204)
        self.end_headers()
    def do_GET(self):
        body = f"{self.path} {self.said}".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", 8099), Handler).serve_forever()
"""
RULES = """
apiVersion: rules.kubeedge.io/v1
kind: RuleEndpoint
metadata: {name: my-rest}
spec: {ruleEndpointType: rest}
---
apiVersion: rules.kubeedge.io/v1
kind: RuleEndpoint
metadata: {name: my-servicebus}
spec: {ruleEndpointType: servicebus, properties: {service_port: "8099"}}
---
apiVersion: rules.kubeedge.io/v1
kind: Rule
metadata: {name: shop}
spec: {source: my-rest, sourceResource: {path: /shop}, target: my-servicebus, targetResource: {path: /api}}
"""
PUSHED = "{name: temperature, reportToCloud: true, pushMethod: {http: {hostName: 'http://127.0.0.1', port: 8099, requestPath: /}},"


class Mapper:
    """A program of the node."""

    def __init__(self, site: Site) -> None:  # noqa: F811
        self._site = site

    def twin(self) -> dict[str, Any]:
        said = self._site.machine.run(sys.executable, "-c", GET, check=False)  # the broker may not listen yet
        twin: dict[str, Any] = (json.loads(said) if said.startswith("{") else {}).get("twin", {})
        return twin

    def wanted(self) -> str:
        target = self.twin().get("target", {})
        return str(target.get("expected", {}).get("value"))

    def report(self, *several: dict[str, str]) -> None:
        """Returns when they are acknowledged."""
        updates = [{name: {"actual": {"value": value}} for name, value in values.items()} for values in several]
        payloads = [json.dumps({"twin": update}) for update in updates]
        self._site.machine.run(sys.executable, "-c", REPORT, *payloads)


def test_a_device_is_set_and_read_by_kubectl_through_a_cut_and_a_crash(site: Site) -> None:  # noqa: F811
    def shown() -> str:
        return str(site.kubectl("get", "devices", "-o", "wide"))

    def ready(status: str) -> bool:
        return shown().splitlines()[1].split()[4] == status

    site.join()
    config = site.root / "etc/kubeedge/kubeedge.yaml"
    head, name, tail = config.read_text().partition("  devices:")
    assert name
    tail = tail.replace("enable: false", "enable: true", 1).replace("rules: false", "rules: true", 1)
    config.write_text(head + name + tail)
    site.start_agent()
    mapper = Mapper(site)
    device = DEVICE.replace("{name: temperature, reportToCloud: true,", PUSHED)
    assert device != DEVICE
    site.kubectl("apply", "-f", "-", input=device)
    until(lambda: ready("ModelMissing"), what="what is missing")
    site.kubectl("apply", "-f", "-", input=MODEL)
    until(lambda: ready("MapperSilent"), what="the device on its node")
    until(lambda: mapper.wanted() == "20", what="the desired value")
    mapper.report({"temperature": "19.5", "target": "20"})
    until(lambda: ready("True") and "temperature=19.5" in shown(), what="the reported values")
    site.kubectl("apply", "-f", "-", input=device.replace('"20"', '"21"'))
    until(lambda: mapper.wanted() == "21", what="the new desired value")
    until(lambda: ready("NotApplied"), what="that it is not applied yet")
    uplink = uplink_of(site.machine)
    site.machine.ip("link", "set", uplink, "down")
    numbers = [{"temperature": str(number), "target": "21"} for number in range(200)]
    mapper.report(*numbers, {"temperature": "20.5"})  # acknowledged: it is on the disk
    upload = [f"record {number}" for number in range(300)]
    site.machine.run(sys.executable, "-c", UPLOAD, *upload)  # likewise
    site.machine.signal(site.agent, signal.SIGKILL)
    site.agent.wait(90)
    site.machine.ip("link", "set", uplink, "up")
    site.start_agent()
    until(lambda: ready("True") and "temperature=20.5" in shown(), what="the values after the crash")

    def uploaded() -> list[str]:
        page = json.loads(site.kubectl("get", "--raw", "/messages/edge1?after=0"))
        return [message["payload"] for message in page["messages"]]

    until(lambda: len(uploaded()) >= len(upload), what="the messages for the cloud")
    assert uploaded() == upload
    # a service of the node, on its loopback: what it was sent meanwhile is read over the cloud, by a rule
    site.kubectl("apply", "-f", "-", input=RULES)
    service = site.machine.spawn(sys.executable, "-c", SERVICE)

    def read() -> str:
        try:
            return str(site.kubectl("get", "--raw", "/rules/edge1/default/shop/orders?page=2"))
        except CommandFailed as exc:  # it does not listen yet
            return str(exc)

    until(lambda: "time=" in read() and "temperature=20.5" in read(), what="all values where pushMethod says")
    said = read()
    assert said.startswith("/api/orders?page=2 ")
    assert [f"temperature={n}&" in said for n in ("19.5", *range(200))].count(False) == 0
    until(
        lambda: int(site.kubectl("get", "rule", "shop", "--no-headers").split()[3]) > 0, what="calls that are counted"
    )
    site.machine.signal(service, signal.SIGKILL)
    service.wait(90)
    site.kubectl("delete", "device", "hall", "--timeout=80s")
