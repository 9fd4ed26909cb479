"""`kubeedge devices list|get|watch|history|call|scan`: the devices of this node, over its broker; they are there without the cloud, too.

`list --cloud`, `get --cloud`, `call --cloud`, `set`, `approve` and `scan --node` (device_scan.py) ask the cloud process instead.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
import urllib.parse
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from kubeedge.cli.control import call_cloud, of_tenant
from kubeedge.cli.errors import CommandError, UsageError
from kubeedge.cli.show import as_json, plain, table, tree
from kubeedge.errors import Invalid, KubeEdgeError, Unavailable
from kubeedge.kit.tasks import cancel_and_wait
from kubeedge.mapper.broker import LOGIN, NodeBroker, node_broker
from kubeedge.mapper.listing import RESULT, DeviceListing
from kubeedge.mqtt.client import MqttClient
from kubeedge.mqtt.codec import Publish

_ADVICE = "is modules.devices.enable true in the agent's configuration, and does the agent run (kubeedge status)? Another broker: --broker."
_USERS = (
    "has this Unix user an entry (uid) in the file of modules.devices.mqttUsers? root has, unless that says otherwise; "
    "--user and --password-file, or --cert-file, log in"
)
_ELSEWHERE = " On the cloud's machine: --cloud"
_DEVICE, _DOCUMENT = "$hw/events/device/", "/twin/update/document"
HISTORY = "$ke/events/devices/history/get"
CALL = "$ke/events/devices/method/call"
_SLACK = 10.0  # seconds that a call takes besides what the device has
_ANSWER = 30.0  # seconds that the node has to read its files
_WAITING = 1024  # values that are to be printed; a slow terminal loses the oldest


def run(options: argparse.Namespace) -> int:
    """Exit status 0. Raises CommandError for a device that the node has not, and without a broker."""
    if options.verb == "user":
        from kubeedge.cli import device_user

        return device_user.run(options)
    if options.verb in ("scan", "approve"):
        from kubeedge.cli import device_scan

        return device_scan.run(options)
    if options.cloud:
        return _in_the_cloud(options)
    try:
        broker = node_broker(options.broker, {name: getattr(options, name) for name in LOGIN})
    except Invalid as exc:
        raise UsageError(str(exc)) from exc
    try:
        verbs = {"watch": _watch, "history": _history, "call": _call}
        asyncio.run(verbs.get(options.verb, _show)(broker, options))
    except (OSError, KubeEdgeError) as exc:
        if isinstance(exc, CommandError | BrokenPipeError):
            raise
        if isinstance(exc, Unavailable):
            raise CommandError(f"broker {broker}: {exc}", _USERS) from exc
        if isinstance(exc, Invalid) or getattr(exc, "filename", None):  # a file of this command
            raise CommandError(f"broker {broker}: {exc}") from exc
        advice = f"{_ADVICE}{'' if options.verb in ('watch', 'history') else _ELSEWHERE}"
        raise CommandError(f"broker {broker}: {str(exc) or 'no answer in time'}", advice) from exc
    return 0


def _in_the_cloud(options: argparse.Namespace) -> int:
    target = of_tenant(options.tenant, "devices")
    if options.verb == "list":
        answer = call_cloud(options.socket, "GET", target)
        text = tree({"devices": answer["devices"]})
    else:
        namespace, slash, name = options.device.rpartition("/")
        parts = [urllib.parse.quote(part, safe="") for part in (namespace if slash else "default", name)]
        target = "/".join((target, *parts))
        if options.verb == "call":
            target = f"{target}/{urllib.parse.quote(options.method, safe='')}"
            answer = call_cloud(options.socket, "POST", target, _call_body(options), timeout=options.timeout + _SLACK)
            return _print_result(options, answer.get("result"))
        body = None if options.verb == "get" else _values(options.values)
        answer = call_cloud(options.socket, "GET" if body is None else "PUT", target, body)
        text = tree(answer)
    print(as_json(answer) if options.output == "json" else text)
    return 0


def _values(texts: Sequence[str]) -> dict[str, str]:
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise UsageError(f"{text!r} is no PROPERTY=VALUE")
        found[name] = value
    return found


@asynccontextmanager
async def _client(broker: NodeBroker, received: Callable[[Publish], None]) -> AsyncIterator[MqttClient]:
    client = await broker.connect(f"devices-{time.time_ns()}", received)
    serving = asyncio.create_task(client.serve())
    try:
        yield client
    finally:
        await cancel_and_wait(serving)


async def _listed(broker: NodeBroker) -> list[dict[str, Any]]:
    listing = DeviceListing()

    def received(message: Publish) -> None:
        if isinstance(value := _value(message.payload), dict):
            listing.answered(value)

    async with _client(broker, received) as client:
        await client.subscribe(RESULT)
        return await listing.all(client)


async def _show(broker: NodeBroker, options: argparse.Namespace) -> None:
    devices = await _listed(broker)
    if options.verb == "list":
        print(as_json(devices) if options.output == "json" else _list(devices))
        return
    found = _the_one(devices, options.device)
    print(as_json(found) if options.output == "json" else _one(found))


def _the_one(devices: list[dict[str, Any]], name: str) -> dict[str, Any]:
    found = [item for item in devices if _is_meant(item["id"], name)]
    if len(found) != 1:
        why = "no device" if not found else f"{len(found)} devices (say NAMESPACE/NAME)"
        raise CommandError(f"this node has {why} {name}", "kubeedge devices list")
    return found[0]


def _call_body(options: argparse.Namespace) -> dict[str, Any]:
    return {"parameters": _values(options.values), "timeoutSeconds": options.timeout}


def _print_result(options: argparse.Namespace, result: Any) -> int:
    if options.output == "json" or isinstance(result, dict | list):
        print(as_json(result))
    else:
        print("done" if result is None else _printable(str(result), 4000))
    return 0


async def _call(broker: NodeBroker, options: argparse.Namespace) -> None:
    request = {"id": options.device, "method": options.method, **_call_body(options)}
    value = await _asked(broker, CALL, request, options.timeout + _SLACK)
    if "reason" in value:
        is_known = not str(value["reason"]).startswith("this node has")
        raise CommandError(str(value["reason"]), f"kubeedge devices {'get ' + options.device if is_known else 'list'}")
    _print_result(options, value.get("result"))


async def _asked(broker: NodeBroker, topic: str, request: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """The answer to a request on a topic of the node's. Raises OSError, TimeoutError included."""
    answered: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    event = f"{request['id']}-{time.time_ns()}"[-100:]

    def received(message: Publish) -> None:
        value = _value(message.payload)
        if isinstance(value, dict) and value.get("event_id") == event and not answered.done():
            answered.set_result(value)

    async with _client(broker, received) as client, asyncio.timeout(seconds):
        await client.subscribe(f"{topic}/result")
        await client.publish(topic, json.dumps({"event_id": event, **request}).encode())
        return await answered


async def _history(broker: NodeBroker, options: argparse.Namespace) -> None:
    since = int((time.time() - options.since) * 1000) if options.since else 0
    request = {"id": options.device, "property": options.property, "since": max(0, since), "count": options.count}
    value = await _asked(broker, HISTORY, request, _ANSWER)
    if "reason" in value:
        raise CommandError(f"{options.device}: {value['reason']}", "kubeedge devices list")
    found = value["values"]
    text = "\n".join(f"{_time(stamp)}  {_printable(one)}" for stamp, one in found)
    if options.output == "json" or found:
        print(as_json(found) if options.output == "json" else text)
    else:
        print(f"no values: is {options.property} in the annotation kubeedge.io/history of the Device?", file=sys.stderr)


def _is_meant(identifier: str, name: str) -> bool:
    return name in (identifier, identifier.partition("/")[2])


def _value(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        return None


def _list(devices: list[dict[str, Any]]) -> str:
    rows = [
        (
            item["id"],
            item["protocol"]["protocolName"] or "-",
            item["state"],
            _time(item["last_online"]),
            len(item["properties"]),
        )
        for item in devices
    ]
    return table(("DEVICE", "PROTOCOL", "STATE", "LAST REPORT", "PROPERTIES"), rows)


def _one(device: Mapping[str, Any]) -> str:
    rows = []
    for name, prop in device["properties"].items():
        has = device["reported"].get(name, {})
        shown = [_printable(value) for value in (prop.get("desired", "-"), has.get("value", "-"))]
        rows.append((name, prop.get("type", "-"), *shown, prop.get("unit", "-"), _time(has.get("timestamp", 0))))
    head = f"{plain(device['id'])}: {plain(device['state'])}, last report {_time(device['last_online'])}"
    if why := device.get("reason"):
        head = f"{head}\n{_printable(str(why), 500)}"
    methods = "".join(f"\nmethod {_method(one)}" for one in device.get("methods") or ())
    return f"{head}\n{table(('PROPERTY', 'TYPE', 'DESIRED', 'REPORTED', 'UNIT', 'TIME'), rows)}{methods}"


def _method(method: Mapping[str, Any]) -> str:
    parameters = ", ".join(f"{one['name']}: {one.get('type', '-')}" for one in method["parameters"])
    return _printable(f"{method['name']}({parameters}) {method['description']}".rstrip(), 400)


def _printable(text: str, most: int = 60) -> str:
    """Nothing that a terminal would obey: values come from devices."""
    return "".join(c if c.isprintable() else "?" for c in text[:most])


def _time(milliseconds: Any) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(milliseconds / 1000)) if milliseconds else "-"
    except (TypeError, ValueError, OverflowError, OSError):  # none that a calendar has
        return "-"


async def _watch(broker: NodeBroker, options: argparse.Namespace) -> None:
    changes: asyncio.Queue[Publish] = asyncio.Queue(_WAITING)

    def received(message: Publish) -> None:
        if changes.full():
            changes.get_nowait()
        changes.put_nowait(message)

    if options.device:
        options.device = _the_one(await _listed(broker), options.device)["id"]
    async with _client(broker, received) as client:
        await client.subscribe(f"{_DEVICE}+/+{_DOCUMENT}")
        printed = 0
        while not options.count or printed < options.count:
            message = await _next(changes, client)
            device = message.topic[len(_DEVICE) : -len(_DOCUMENT)]
            value = _value(message.payload)
            if (options.device and not _is_meant(device, options.device)) or not isinstance(value, dict):
                continue
            at = value.get("timestamp", 0)
            for name, text in _changed(value):
                line = {"device": device, "property": name, "value": text, "timestamp": at}
                shown = f"{_time(at)} {plain(device)} {plain(name)} {_printable(text)}"
                print(json.dumps(line) if options.output == "json" else shown, flush=True)
                printed += 1


def _changed(value: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(property, value) of each twin in a document. Any program of the node may have published it."""
    found: Any = value.get("twin")
    for name, twin in found.items() if isinstance(found, dict) else ():
        for key in ("current", "actual"):
            twin = twin.get(key) if isinstance(twin, dict) else None
        yield name, str(twin.get("value", "-") if isinstance(twin, dict) else "-")


async def _next(changes: asyncio.Queue[Publish], client: MqttClient) -> Publish:
    """The next message. Raises ConnectionError when the broker goes away."""
    while True:
        try:
            async with asyncio.timeout(1.0):
                return await changes.get()
        except TimeoutError:
            if client.has_ended:
                raise ConnectionResetError("the broker has closed the connection") from None
