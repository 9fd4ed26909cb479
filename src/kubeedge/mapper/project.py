"""The files of a new mapper (`kubeedge mapper new`): a program, its test, what is applied to the cluster, and a README. Pure.

The program speaks lines of text over TCP, so that it works as it is made; whoever makes it puts the device's own protocol there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from string import Template

from kubeedge.errors import Invalid

METRICS = 10021  # port of loopback for the probes of the Deployment
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")

_PROGRAM = Template('''\
"""A mapper for devices of the protocol $name: lines of text over TCP, "GET key" and "SET key value".

configData of a Device: host, port. Of a property: key.
"""

import asyncio

from kubeedge.mapper import Device, Mapper, Property

mapper = Mapper(protocol="$name")


class Client:
    """One device. What ends the connection (OSError, EOFError, TimeoutError) makes the mapper connect again."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.turn = asyncio.Lock()

    async def ask(self, line):
        async with self.turn:
            self.writer.write(line.encode() + b"\\n")
            await self.writer.drain()
            answer = await self.reader.readline()
        if not answer.endswith(b"\\n"):
            raise EOFError
        word, _, rest = answer.decode().strip().partition(" ")
        if word != "OK":
            raise ValueError(f"the device answers {word} {rest}")  # of this property alone
        return rest

    def close(self):
        self.writer.close()


@mapper.connect
async def connect(device: Device):
    host, port = device.config.get("host"), device.number("port", 1, 65535)
    if not isinstance(host, str):
        raise device.invalid("host is missing")
    return Client(*await asyncio.open_connection(host, port, limit=1024))


@mapper.read
async def read(client, prop: Property):
    return prop.typed(await client.ask(f"GET {key_of(prop)}"))


@mapper.write
async def write(client, prop: Property, value):
    await client.ask(f"SET {key_of(prop)} {value}")


def key_of(prop):
    key = str(prop.visitor.get("key", prop.name))
    if not key.isidentifier():
        raise prop.invalid("key must be a word")
    return key


if __name__ == "__main__":
    mapper.run()
''')

_TEST = Template('''\
"""The mapper against a device of its own, without a node: python3 -m pytest."""

import asyncio

import pytest
from kubeedge.mapper.simulated import SimulatedDevice

from mapper import mapper

PROPERTIES = {
    "temperature": {"type": "FLOAT", "accessMode": "ReadOnly"},
    "target": {"type": "INT", "minimum": "5", "maximum": "30"},
    "odd": {"type": "INT", "visitors": {"configData": {"key": "nothing"}}},
}


async def device(values, reader, writer):
    while line := (await reader.readline()).decode().split():
        if line[0] == "SET":
            values[line[1]] = line[2]
        known = line[1] in values
        writer.write(f"OK {values[line[1]]}\\n".encode() if known else b"ERROR no such key\\n")
    writer.close()


def run(scenario, values):
    async def whole():
        async with asyncio.timeout(30):
            server = await asyncio.start_server(lambda r, w: device(values, r, w), "127.0.0.1", 0)
            config = {"host": "127.0.0.1", "port": server.sockets[0].getsockname()[1]}
            async with server, SimulatedDevice(mapper, PROPERTIES, config=config) as simulated:
                await scenario(simulated)

    asyncio.run(whole())


def test_values_are_read_and_set():
    async def scenario(simulated):
        assert await simulated.read("temperature") == "21.5"
        await simulated.write("target", "22")
        assert await simulated.read("target") == "22"

    values = {"temperature": "21.5", "target": "20"}
    run(scenario, values)
    assert values["target"] == "22"


def test_what_is_wrong_is_said_by_name():
    async def scenario(simulated):
        with pytest.raises(Exception, match="target: '31'"):
            await simulated.write("target", "31")
        with pytest.raises(ValueError, match="no such key"):
            await simulated.read("odd")

    run(scenario, {"target": "20"})
''')

_DEVICES = Template("""\
apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {name: $name}
spec:
  protocol: $name
  properties:
  - {name: temperature, type: FLOAT, accessMode: ReadOnly, unit: celsius}
  - {name: target, type: INT, accessMode: ReadWrite, minimum: "5", maximum: "30"}
---
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {name: $name-1}
spec:
  deviceModelRef: {name: $name}
  nodeName: edge1
  protocol:
    protocolName: $name
    configData: {host: 192.168.1.20, port: 4000}
  properties:
  - name: temperature
    collectCycle: 1000
    visitors: {protocolName: $name, configData: {key: temperature}}
  - name: target
    desired: {value: "20"}
    visitors: {protocolName: $name, configData: {key: target}}
""")

_DEPLOYMENT = Template("""\
apiVersion: apps/v1
kind: Deployment
metadata: {name: $name-mapper}
spec:
  replicas: 1
  strategy: {type: Recreate}
  selector: {matchLabels: {app: $name-mapper}}
  template:
    metadata: {labels: {app: $name-mapper}}
    spec:
      nodeSelector: {kubernetes.io/hostname: edge1}
      hostNetwork: true                # the node's broker is on loopback
      automountServiceAccountToken: false
      containers:
      - name: mapper
        image: $image
        imagePullPolicy: IfNotPresent
        # where the broker has users: env KUBEEDGE_BROKER_USER and KUBEEDGE_BROKER_PASSWORD_FILE, a file of a Secret (or ..._CERT_FILE, ..._KEY_FILE)
        readinessProbe: {httpGet: {host: 127.0.0.1, port: $metrics, path: /readyz}}
        livenessProbe: {httpGet: {host: 127.0.0.1, port: $metrics, path: /healthz}, failureThreshold: 6}
        resources: {limits: {memory: 32Mi}}
        securityContext:
          runAsUser: 65534
          allowPrivilegeEscalation: false
          readOnlyRootFilesystem: true
          capabilities: {drop: [ALL]}
""")

_README = Template("""\
# $name

`mapper.py` reads and sets devices of the protocol `$name` for KubeEdge. Put the device's own protocol in place of the lines of text.

    python3 -m pytest                       # the test, without a node; needs pip install kubeedge pytest
    kubeedge mapper run mapper.py           # on a node, in a shell
    kubectl apply -f devices.yaml           # a model and a device: their address and node are yours to fill in

As a pod: an image without a container daemon, from the archive of one that has Python and the package kubeedge (`make mapper-image` of the project
KubeEdge makes one), and the Deployment.

    kubeedge mapper image . --base kubeedge-mappers.tar --name $image --output $name.tar
    kubeedge image import $name.tar         # on the node; or push it to a registry
    kubectl apply -f deployment.yaml
""")


def image_of(name: str) -> str:
    """The image that the Deployment names."""
    return f"localhost/{name}-mapper:1"


def files_of(name: str) -> Mapping[str, str]:
    """Path -> text. Raises Invalid for a name that no protocol should have."""
    if not _NAME.fullmatch(name):
        raise Invalid(f"{name[:64]!r} is no name of a protocol: letters a to z, digits and -, at most 40")
    parts = {"mapper.py": _PROGRAM, "test_mapper.py": _TEST, "devices.yaml": _DEVICES}
    parts |= {"deployment.yaml": _DEPLOYMENT, "README.md": _README}
    return {path: text.substitute(name=name, image=image_of(name), metrics=METRICS) for path, text in parts.items()}
