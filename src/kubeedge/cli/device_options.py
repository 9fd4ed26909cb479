"""The command line of devices and mappers (devices.py, mapper.py). `kubeedge --help` imports this, so it imports next to nothing."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from kubeedge.api.mappers import MAPPERS

BROKER = "127.0.0.1:1883"
SOCKET = "/run/kubeedge/cloud.sock"


def add_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    """`kubeedge devices` and `kubeedge mapper`. `add`: makes the parser of a command."""
    p = add("devices", "devices", "devices of this node: what is wanted of them, and what they report", output=False)
    verbs = p.add_subparsers(title="verbs", metavar="VERB", dest="verb", required=True)
    made = {
        verb: verbs.add_parser(verb, help=summary, description=summary, allow_abbrev=False)
        for verb, summary in (
            ("list", "list devices: protocol, state, last report"),
            ("get", "show the properties of a device: desired, reported, when"),
            ("watch", "print values as they change"),
            ("call", "call a method of a device"),
            ("history", "print the values that a property had, the oldest first"),
        )
    }
    for parser in made.values():
        parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="output format")
        _broker(parser)
    set_ = verbs.add_parser(
        "set", help="in the cloud: set desired values", description="set desired values of a device"
    )
    set_.add_argument("-o", "--output", choices=("text", "json"), default="text", help="output format")
    set_.set_defaults(cloud=True)
    set_.add_argument("device", help="NAME, or NAMESPACE/NAME")
    set_.add_argument("values", nargs="+", metavar="PROPERTY=VALUE", help="without a value: none is wanted any more")
    for parser in (made["list"], made["get"], made["call"], set_):
        parser.add_argument("--tenant", default="default", help="in the cloud: tenant (default: default)")
        parser.add_argument("--socket", default=SOCKET, help=f"the cloud's unix socket (default: {SOCKET})")
    for parser in (made["list"], made["get"], made["call"]):
        parser.add_argument("--cloud", action="store_true", help="ask the cloud process of this machine, not the node")
    user = verbs.add_parser("user", help="print an entry for the file of MQTT users (modules.devices.mqttUsers)")
    user.add_argument("name", help="the user's name")
    user.add_argument(
        "--certificate", action="store_true", help="it has a client certificate of that name, no password"
    )
    user.add_argument("--protocol", default="", help="a mapper: it may use the devices of that protocol")
    _add_scan(verbs)
    history = made["history"]
    history.set_defaults(cloud=False)
    history.add_argument("device", help="NAME, or NAMESPACE/NAME")
    history.add_argument("property", help="a property that its Device names in the annotation kubeedge.io/history")
    history.add_argument("--since", metavar="SECONDS", type=float, default=0, help="only values of the last SECONDS")
    history.add_argument(
        "--count", type=int, default=100, help="so many of the newest values, at most 1000 (default: 100)"
    )
    call = made["call"]
    call.add_argument("device", help="NAME, or NAMESPACE/NAME")
    call.add_argument("method", help="one that `kubeedge devices get` names")
    call.add_argument("values", nargs="*", metavar="PARAMETER=VALUE", help="what the method needs")
    call.add_argument("--timeout", metavar="SECONDS", type=float, default=10, help="that the device has (default: 10)")
    made["watch"].set_defaults(cloud=False)
    made["get"].add_argument("device", help="NAME, or NAMESPACE/NAME")
    made["watch"].add_argument("device", nargs="?", default="", help="NAME, or NAMESPACE/NAME (default: all)")
    made["watch"].add_argument("--count", type=int, default=0, help="end after so many values (default: never)")

    _add_mapper(add)


def _add_scan(verbs: Any) -> None:
    scan = verbs.add_parser(
        "scan",
        help="look for devices: each becomes a Device that waits for approval",
        description="look for devices in networks and by radio; each that answers becomes a Device that waits for approval",
    )
    scan.add_argument("network", nargs="*", help="of the node, like 192.168.1.0/24; no other gets a packet")
    scan.add_argument(
        "--radio", metavar="ADAPTER", action="append", default=[], help="Bluetooth adapter, like hci0 (repeatable)"
    )
    scan.add_argument("--finder", action="append", default=[], help="modbus, mdns, ... (repeatable; default: all)")
    scan.add_argument("--unit", type=int, action="append", help="unit of Modbus (repeatable; default: 1 and 255)")
    scan.add_argument("--seconds", type=float, default=20.0, help="end after that (default: 20)")
    scan.add_argument("--packets", type=int, default=5000, help="send no more than that (default: 5000)")
    scan.add_argument("--dry-run", action="store_true", help="print what is found, and make no Devices")
    scan.add_argument("--node", default="", help="in the cloud: the node that is to scan")
    _broker(scan)
    approve = verbs.add_parser(
        "approve", help="in the cloud: use a device that a scan has found", description="use a device that was found"
    )
    approve.add_argument("device", help="NAME, or NAMESPACE/NAME")
    approve.add_argument("--model", default="", help="name of its DeviceModel (default: as it is)")
    approve.add_argument("--name", default="", help="another name for the Device")
    for parser in (scan, approve):
        parser.set_defaults(cloud=False)
        parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="output format")
        parser.add_argument("--tenant", default="default", help="in the cloud: tenant (default: default)")
        parser.add_argument("--socket", default=SOCKET, help=f"the cloud's unix socket (default: {SOCKET})")


def _add_mapper(add: Callable[..., argparse.ArgumentParser]) -> None:
    p = add("mapper", "mapper", "read and set devices of one protocol; make mappers of your own", output=False)
    verbs = p.add_subparsers(title="verbs", metavar="VERB", dest="protocol", required=True)
    made = {
        verb: verbs.add_parser(verb, help=summary, description=summary, allow_abbrev=False)
        for verb, summary in (
            ("modbus", "run the mapper of Modbus TCP and RTU in the foreground"),
            ("http", "run the mapper of devices that answer HTTP requests, or send them, in the foreground"),
            ("mqtt", "run the mapper of devices with MQTT topics of their own in the foreground"),
            ("opcua", "run the mapper of OPC-UA servers in the foreground"),
            ("gpio", "run the mapper of GPIO lines in the foreground"),
            ("serial", "run the mapper of devices that speak lines of text on a serial line in the foreground"),
            ("can", "run the mapper of CAN buses in the foreground"),
            ("ble", "run the mapper of Bluetooth Low Energy devices in the foreground"),
            ("onvif", "run the mapper of ONVIF cameras in the foreground"),
            ("virtual", "run the mapper of devices without hardware in the foreground"),
            ("several", "run several of these mappers in one process"),
            ("run", "run the mapper of a Python file in the foreground"),
            ("new", "make a mapper: program, test, manifests"),
            ("image", "put a mapper into an image, without a container daemon"),
        )
    }
    made["run"].add_argument("file", help="a Python file with a Mapper of the name `mapper`")
    for verb in (*MAPPERS, "run"):
        made[verb].add_argument(
            "--metrics", metavar="HOST:PORT", default="", help="serve /metrics, /healthz and /readyz there"
        )
        _broker(made[verb])
    made["several"].add_argument("protocols", metavar="PROTOCOL", nargs="+", choices=MAPPERS, help=", ".join(MAPPERS))
    made["several"].add_argument("--until-stdin-ends", action="store_true", help="end when standard input does")
    _broker(made["several"])
    made["http"].add_argument(
        "--listen", metavar="HOST:PORT", default="", help="devices with a pushToken may send values to this address"
    )
    made["onvif"].add_argument(
        "--listen", metavar="HOST:PORT", default="", help="browsers see cameras with `video: true` at this address"
    )
    made["new"].add_argument("name", help="of the protocol, as Devices will name it")
    made["new"].add_argument("--directory", default="", help="a new or empty directory (default: NAME)")
    image = made["image"]
    image.add_argument("directory", help="the directory of mapper.py")
    image.add_argument("--base", required=True, help="an archive of an image that has python3 and the package kubeedge")
    image.add_argument("--name", required=True, help="of the new image, like registry.example/team/mapper:1")
    image.add_argument("--output", required=True, metavar="FILE", help="the archive to write")


def _broker(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--broker",
        metavar="HOST:PORT",
        default="",
        help=f"the node's; mqtts://HOST[:PORT] by TLS (default: $KUBEEDGE_BROKER, else {BROKER})",
    )
    for option, metavar, summary in (
        ("--user", "NAME", "user at that broker (default: $KUBEEDGE_BROKER_USER; so do the others)"),
        ("--password-file", "FILE", "file with the user's password"),
        ("--ca-file", "FILE", "authorities of the broker's certificate, PEM (default: the system's)"),
        ("--cert-file", "FILE", "our certificate for it, PEM"),
        ("--key-file", "FILE", "private key of that certificate"),
    ):
        parser.add_argument(option, metavar=metavar, default="", help=summary)
