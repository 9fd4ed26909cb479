"""`kubeedge devices user NAME`: an entry for the file of MQTT users (modules.devices.mqttUsers), with the password as scrypt keeps it."""

from __future__ import annotations

import argparse
import getpass
import sys
from typing import Any

import yaml

from kubeedge.cli.errors import UsageError
from kubeedge.devices.eventbus import passwords
from kubeedge.devices.eventbus.users import users
from kubeedge.errors import Invalid
from kubeedge.mqtt.codec import MAX_PASSWORD


def run(options: argparse.Namespace) -> int:
    """Prints the entry. The password is asked for, or is the first line of the standard input: an argument could be seen by others."""
    item: dict[str, Any] = {"user": options.name}
    if options.certificate:
        item["certificate"] = True
    else:
        item["password"] = passwords.hashed(_password().encode())
    if options.protocol:
        item["protocol"] = options.protocol
    try:
        users([item])
    except Invalid as exc:
        raise UsageError(str(exc)) from exc
    print(yaml.safe_dump([item], sort_keys=False, width=1000), end="")
    if not options.protocol:
        advice = "it may do nothing yet: add `devices`, `topics`, `messages: true` or `everything: true` to its entry"
        print(f"next: {advice}", file=sys.stderr)
    return 0


def _password() -> str:
    if sys.stdin.isatty():
        password = getpass.getpass("password: ")
        if password != getpass.getpass("once more: "):
            raise UsageError("these are two passwords")
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if not 0 < len(password.encode()) <= MAX_PASSWORD:
        raise UsageError(f"a password has 1 to {MAX_PASSWORD} bytes")
    return password
