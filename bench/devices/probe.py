"""One end of a path whose time is measured: CLOCK_MONOTONIC is the same in all namespaces of a machine.

python -m bench.devices.probe edge COUNT                  prints when each desired value came; then reports, and prints when
python -m bench.devices.probe cloud KUBECONFIG COUNT      sets desired values over the API, and prints when; then watches for reports
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Iterator

import yaml

from bench.devices.client import Connection, packet, publish

PATH = "/apis/devices.kubeedge.io/v1beta1/namespaces/default/devices"
TOPIC = b"$hw/events/device/default/probe/twin/update"
PAUSE = 0.05  # seconds between two values
FIRST = 1000  # the first value


def said(**what: object) -> None:
    print(json.dumps(what), flush=True)


def edge(count: int) -> None:
    connection = Connection(("127.0.0.1", 1883), b"probe")
    delta = TOPIC + b"/delta"
    connection.socket.sendall(packet(0x82, b"\0\1" + len(delta).to_bytes(2, "big") + delta + b"\1"))
    said(ready=True)
    came = 0
    for first, data in connection.packets():
        if first >> 4 != 3:
            continue
        at = time.monotonic()
        body = data[2 + len(delta) :]
        connection.socket.sendall(b"\x40\x02" + body[:2])
        value = json.loads(body[2:])["delta"].get("target")
        if value is not None and int(value) >= FIRST:
            said(value=value, at=at)
            came = max(came, int(value))
        if came == FIRST + count - 1:
            break
    answers = connection.packets()
    sys.stdin.readline()
    for n in range(count):
        payload = json.dumps({"twin": {"reading": {"actual": {"value": str(FIRST + n)}}}}).encode()
        said(value=str(FIRST + n), at=time.monotonic())
        connection.socket.sendall(publish(TOPIC, payload, n + 1))
        next(answers)
        time.sleep(PAUSE)


class Api:
    """Requests of a kubeconfig's user, on one connection."""

    def __init__(self, path: str) -> None:
        with open(path) as file:
            config = yaml.safe_load(file)
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self._url = urllib.parse.urlsplit(cluster["server"])
        ca = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._context = ssl.create_default_context(cadata=ca)
        with tempfile.NamedTemporaryFile() as pair:
            for name in ("client-certificate-data", "client-key-data"):
                pair.write(base64.b64decode(user[name]) + b"\n")
            pair.flush()
            self._context.load_cert_chain(pair.name)

    def connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(str(self._url.hostname), self._url.port, context=self._context)


def cloud(path: str, count: int) -> None:
    api = Api(path)
    connection = api.connect()
    headers = {"content-type": "application/merge-patch+json"}
    for n in range(count):
        body = json.dumps({"spec": {"properties": [{"name": "target", "desired": {"value": str(FIRST + n)}}]}})
        said(value=str(FIRST + n), at=time.monotonic())
        connection.request("PATCH", f"{PATH}/probe", body, headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status
        time.sleep(PAUSE)
    watch = api.connect()
    watch.request("GET", f"{PATH}?watch=1&fieldSelector=metadata.name%3Dprobe")
    events = watch.getresponse()
    said(ready=True)
    seen = 0
    for line in iter(events.readline, b""):
        at = time.monotonic()
        for value in _readings(json.loads(line)["object"]):
            if value > seen >= 0:
                said(value=str(value), at=at)
                seen = value
        if seen == FIRST + count - 1:
            return


def _readings(device: dict[str, object]) -> Iterator[int]:
    status = device.get("status")
    for twin in status.get("twins", []) if isinstance(status, dict) else []:
        if twin["propertyName"] == "reading" and int(twin["reported"]["value"]) >= FIRST:
            yield int(twin["reported"]["value"])


if __name__ == "__main__":
    if sys.argv[1] == "edge":
        edge(int(sys.argv[2]))
    else:
        cloud(sys.argv[2], int(sys.argv[3]))
