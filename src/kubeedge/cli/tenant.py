"""`kubeedge tenant create|list|show|quota|remove`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kubeedge.cli.control import call_cloud
from kubeedge.cli.show import as_json


def run(options: argparse.Namespace) -> int:
    """Exit status 0. Raises CommandError with the cloud's words when it refuses."""

    def ask(method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        return call_cloud(options.socket, method, f"/v1/tenants{path}", body)

    match options.verb:
        case "create":
            answer = ask("POST", "", {"name": options.name, **_cluster(options)})
            text = f"tenant {answer['name']} exists"
        case "show":
            answer = ask("GET", f"/{options.name}")
            text = _shown(answer)
        case "remove":
            answer = ask("DELETE", f"/{options.name}{'?force=true' if options.force else ''}")
            text = f"tenant {answer['name']} is removed"
        case "quota":
            ask("PUT", f"/{options.name}/quota", {"objects": options.objects, "mib": options.mib})
            answer = ask("GET", f"/{options.name}")
            text = _shown(answer)
        case _:
            answer = ask("GET", "")
            text = "\n".join(answer["tenants"])
    print(as_json(answer) if options.output == "json" else text)
    return 0


def _cluster(options: argparse.Namespace) -> Mapping[str, str]:
    """Only what was said: a tenant that exists keeps its API otherwise."""
    if options.embedded:
        return {"cluster": ""}
    if options.kubeconfig == "in-cluster":
        return {"cluster": options.kubeconfig}
    return {"cluster": str(Path(options.kubeconfig).resolve())} if options.kubeconfig else {}


def _shown(answer: Mapping[str, Any]) -> str:
    rows = (f"{what:8} {answer[what]['used']} of {answer[what]['limit']}" for what in ("objects", "bytes"))
    cluster = f"cluster  {answer.get('cluster') or 'embedded'}"
    return "\n".join((f"tenant   {answer['name']}", cluster, *rows))
