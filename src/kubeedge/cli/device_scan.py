"""`kubeedge devices scan` and `approve`: devices that nobody has told us of become Devices that nothing uses until somebody approves them.

On a node the scan runs here, and the node's agent hands over what is found. In the cloud (`--node`) the node is asked to scan.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

from kubeedge.cli.control import call_cloud, of_tenant
from kubeedge.cli.errors import CommandError, UsageError
from kubeedge.cli.show import as_json, table, tree
from kubeedge.errors import Invalid, KubeEdgeError
from kubeedge.mapper.broker import LOGIN, NodeBroker, node_broker
from kubeedge.mapper.scan import core
from kubeedge.mapper.scan.core import ScanRequest
from kubeedge.mapper.scan.driver import scan
from kubeedge.mqtt.codec import Publish

FOUND = "$ke/events/devices/found"
_ANSWER = 30.0  # seconds that the agent has to write them down
_AT_ONCE = 16  # findings in one message
_LOOK = 1.0  # seconds between two questions to the cloud
_LONGER = 120.0  # seconds that a node has besides those of the scan, before the cloud's command gives up


def run(options: argparse.Namespace) -> int:
    """Exit status 0, or 1 when a finder has failed: what others have found counts all the same. Raises CommandError, UsageError."""
    if options.verb == "approve":
        return _approve(options)
    if not 0 < options.seconds <= core.MAX_SECONDS or not 0 < options.packets <= core.MAX_PACKETS:
        raise UsageError(f"a scan has at most {core.MAX_SECONDS:g} seconds and {core.MAX_PACKETS} packets")
    if not all(0 <= unit <= 255 for unit in options.unit or ()) or len(options.unit or ()) > 16:
        raise UsageError("--unit must be from 0 to 255, and at most 16 times there")
    try:
        request = ScanRequest(
            networks=core.networks(options.network),
            radios=core.radios(options.radio),
            finders=options.finder,
            seconds=options.seconds,
            packets=options.packets,
            units=options.unit or (1, 255),
        )
        return _in_the_cloud(options, request) if options.node else _here(options, request)
    except Invalid as exc:
        raise UsageError(str(exc)) from exc


def _here(options: argparse.Namespace, request: ScanRequest) -> int:
    result = asyncio.run(scan(request))
    findings = [finding.as_json() for finding in result.findings]
    answer = {"findings": findings, "errors": result.errors, "leftOut": result.left_out}
    print(as_json(answer) if options.output == "json" else _text(findings, result.errors, result.left_out))
    if findings and not options.dry_run:
        broker = node_broker(options.broker, {name: getattr(options, name) for name in LOGIN})
        try:
            asyncio.run(_hand_over(broker, findings))
        except (OSError, KubeEdgeError) as exc:
            advice = "is modules.devices.enable true, and does the agent run? --dry-run scans without it"
            raise CommandError(f"broker {broker}: {str(exc) or 'no answer in time'}", advice) from exc
        if options.output != "json":
            print("They are on their way to the cloud, as Devices that wait for `kubeedge devices approve`.")
    return 1 if result.errors else 0


async def _hand_over(broker: NodeBroker, findings: Sequence[Mapping[str, Any]]) -> None:
    answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue(64)

    def received(message: Publish) -> None:
        try:
            value = json.loads(message.payload)
        except (ValueError, RecursionError):
            return
        if isinstance(value, dict) and not answers.full():
            answers.put_nowait(value)

    client = await broker.connect(f"scan-{time.time_ns()}", received)
    serving = asyncio.create_task(client.serve())
    try:
        async with asyncio.timeout(_ANSWER):
            await client.subscribe(f"{FOUND}/result")
            for start in range(0, len(findings), _AT_ONCE):
                event = f"scan-{time.time_ns()}"
                some = {"event_id": event, "findings": findings[start : start + _AT_ONCE]}
                await client.publish(FOUND, json.dumps(some).encode())
                while (answer := await answers.get()).get("event_id") != event:
                    pass
                if "reason" in answer:
                    raise Invalid(f"the agent does not take what was found: {answer['reason']}")
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


def _text(findings: Sequence[Mapping[str, Any]], errors: Mapping[str, str], left_out: int) -> str:
    rows = [
        (
            one["name"],
            one["protocol"],
            " ".join(f"{k}={core.clean(str(v))}" for k, v in one["config"].items()),
            ", ".join(f"{key}: {text}" for key, text in list(one["info"].items())[:3]) or "-",
        )
        for one in findings
    ]
    lines = [table(("FOUND", "PROTOCOL", "WHERE", "SAYS"), rows) if rows else "nothing was found"]
    lines += [f"{name}: {core.clean(why)}" for name, why in errors.items()]
    return "\n".join(lines + ([f"{left_out} more were left out: ask for smaller networks"] if left_out else []))


def _in_the_cloud(options: argparse.Namespace, request: ScanRequest) -> int:
    target = f"{of_tenant(options.tenant, 'scans')}/{urllib.parse.quote(options.node, safe='')}"
    body = {
        "networks": [str(network) for network in request.networks],
        "radios": list(request.radios),
        "finders": list(request.finders),
        "units": list(request.units),
        "seconds": request.seconds,
    }
    made = call_cloud(options.socket, "PUT", target, body)
    end = time.monotonic() + request.seconds + _LONGER
    while True:
        answer = call_cloud(options.socket, "GET", target)
        if answer.get("id") == made["id"] and answer.get("state") == "done":
            break
        if time.monotonic() > end:
            raise CommandError(f"node {options.node} has not ended the scan yet", "kubeedge devices list --cloud")
        time.sleep(_LOOK)
    print(as_json(answer) if options.output == "json" else tree(answer))
    return 1 if answer.get("errors") or answer.get("error") else 0


def _approve(options: argparse.Namespace) -> int:
    namespace, slash, name = options.device.rpartition("/")
    parts = [urllib.parse.quote(part, safe="") for part in (namespace if slash else "default", name)]
    body = {"model": options.model, "name": options.name}
    answer = call_cloud(options.socket, "POST", "/".join((of_tenant(options.tenant, "devices"), *parts)), body)
    print(as_json(answer) if options.output == "json" else tree(answer))
    return 0
