"""`kubeedge kubeconfig create|list|revoke|replace`: who may use the Kubernetes API of a tenant. In the cloud."""

from __future__ import annotations

import argparse
import time
import urllib.parse
from pathlib import Path
from typing import Any

from kubeedge.cli.control import call_cloud, of_tenant
from kubeedge.cli.show import as_json, table
from kubeedge.cli.token import seconds
from kubeedge.pki.files import write_secret


def run(options: argparse.Namespace) -> int:
    """Exit status 0. A kubeconfig is a secret: with --file it is written with mode 0600 and not shown."""
    base = of_tenant(options.tenant, "kubeconfigs")

    def ask(method: str, target: str, body: object = None) -> dict[str, Any]:
        return call_cloud(options.socket, method, target, body)

    match options.verb:
        case "create":
            answer = ask("POST", base, {"user": options.user, "ttl": seconds(options.ttl)})
            text = str(answer["kubeconfig"])
            if options.file:
                write_secret(Path(options.file), f"{text}\n".encode())
                answer = {**answer, "kubeconfig": options.file}
                text = f"kubeconfig {answer['id']} of {answer['user']} is in {options.file}"
        case "revoke":
            answer = ask("DELETE", f"{base}/{urllib.parse.quote(options.id, safe='')}")
            text = f"kubeconfig {answer['id']} of {answer['user']} is revoked"
        case "replace":
            answer = ask("POST", f"{base}/admin/replace")
            text = f"{answer['file']} holds kubeconfig {answer['id']} now; the one before it is revoked"
        case _:
            answer = ask("GET", base)
            text = _table(answer["kubeconfigs"])
    print(as_json(answer) if options.output == "json" else text)
    return 0


def _table(kubeconfigs: list[dict[str, Any]]) -> str:
    rows = [
        (k["id"], k["user"], k["state"], _date(k["created"]), _date(k["expires"]), k["file"] or "-")
        for k in kubeconfigs
    ]
    return table(("ID", "USER", "STATE", "CREATED", "EXPIRES", "FILE"), rows)


def _date(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at)) if at else "-"
