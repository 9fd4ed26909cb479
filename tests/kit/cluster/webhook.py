"""An admission webhook that refuses, hangs or changes what it is asked about: HTTPS on loopback beside the API server.

    python -m tests.kit.cluster.webhook '{"listen": 7100, "cert": ..., "key": ..., "mode": FILE}'

FILE holds "" (all is allowed), "refuse", "hang" (no answer), "broken" (an answer that is none) or "mark" (a condition example.com/seen is added to a
status); it is read for each request. Counts by resource are written to FILE.counts as JSON.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from kubeedge.kit.http1 import Request, Response, json_response, serve_connection

MESSAGE = "the webhook does not like what nodes say"
CONDITION = "example.com/seen"


class Webhook:
    def __init__(self, mode: Path) -> None:
        self._mode = mode
        self._counts: Counter[str] = Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve_connection(reader, writer, self._answer)

    async def _answer(self, request: Request) -> Response:
        review = json.loads(await request.read(16 * 1024 * 1024))
        asked, mode = review["request"], self._mode.read_text()
        self._counts["/".join(filter(None, (asked["resource"]["resource"], asked.get("subResource"))))] += 1
        new = Path(f"{self._mode}.counts.new")
        new.write_text(json.dumps(self._counts))
        new.replace(f"{self._mode}.counts")
        if mode == "hang":
            await asyncio.Event().wait()
        if mode == "broken":
            return json_response(200, {"kind": "Pod"})
        answer: dict[str, Any] = {"uid": asked["uid"], "allowed": mode != "refuse"}
        if mode == "refuse":
            answer["status"] = {"message": MESSAGE}
        if mode == "mark" and request.target.startswith("/mutate") and asked.get("subResource") == "status":
            answer |= _marked(asked["object"]["status"])
        return json_response(200, {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer})


def _marked(status: dict[str, Any]) -> dict[str, Any]:
    conditions = status.get("conditions") or []
    if any(condition["type"] == CONDITION for condition in conditions):
        return {}
    seen = {"type": CONDITION, "status": "True", "reason": "Seen", "message": "by a webhook"}
    patch = [{"op": "add", "path": "/status/conditions", "value": [*conditions, seen]}]
    return {"patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(patch).encode()).decode()}


async def main(config: dict[str, Any]) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(config["cert"], config["key"])
    webhook = Webhook(Path(config["mode"]))
    server = await asyncio.start_server(webhook.serve, "127.0.0.1", config["listen"], ssl=context)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
