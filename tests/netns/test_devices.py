"""From kubectl to a device and back: real cloud, real agent, a mapper on MQTT (Eclipse Paho), a cut and a kill -9 in between."""

from __future__ import annotations

import json
import signal
import sys
from typing import Any

import pytest

from tests.kit.topology import until
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
    config.write_text(head + name + tail.replace("enable: false", "enable: true", 1))
    site.start_agent()
    mapper = Mapper(site)
    site.kubectl("apply", "-f", "-", input=DEVICE)
    until(lambda: ready("ModelMissing"), what="what is missing")
    site.kubectl("apply", "-f", "-", input=MODEL)
    until(lambda: ready("MapperSilent"), what="the device on its node")
    until(lambda: mapper.wanted() == "20", what="the desired value")
    mapper.report({"temperature": "19.5", "target": "20"})
    until(lambda: ready("True") and "temperature=19.5" in shown(), what="the reported values")
    site.kubectl("apply", "-f", "-", input=DEVICE.replace('"20"', '"21"'))
    until(lambda: mapper.wanted() == "21", what="the new desired value")
    until(lambda: ready("NotApplied"), what="that it is not applied yet")
    uplink = uplink_of(site.machine)
    site.machine.ip("link", "set", uplink, "down")
    numbers = [{"temperature": str(number), "target": "21"} for number in range(200)]
    mapper.report(*numbers, {"temperature": "20.5"})  # acknowledged: it is on the disk
    site.machine.signal(site.agent, signal.SIGKILL)
    site.agent.wait(90)
    site.machine.ip("link", "set", uplink, "up")
    site.start_agent()
    until(lambda: ready("True") and "temperature=20.5" in shown(), what="the values after the crash")
    site.kubectl("delete", "device", "hall", "--timeout=80s")
