"""A client of the Kubernetes API that means harm, and one that only wants to work, as processes of a test.

python -m tests.kit.bodies attack KUBECONFIG ADDRESS     sends costly bodies on 6 connections until its input ends; prints how many
python -m tests.kit.bodies work KUBECONFIG ADDRESS N     makes, reads, lists and deletes N small objects; prints the seconds of each request
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DEFAULT = "/api/v1/namespaces/default"
JSON, YAML = "application/json", "application/yaml"
MIB = 1024 * 1024


def connection(kubeconfig: str, address: str) -> http.client.HTTPSConnection:
    config = json.loads(Path(kubeconfig).read_text())
    user = config["users"][0]["user"]
    authority = base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    with contextlib.ExitStack() as open_files:
        paths = []
        for name in (
            "certificate",
            "key",
        ):  # in memory: to remove a file may take a second where the disk discards what is freed
            file = open_files.enter_context(open(os.memfd_create(name), "wb", buffering=0))
            file.write(base64.b64decode(user[f"client-{name}-data"]))
            paths.append(f"/proc/self/fd/{file.fileno()}")
        context.load_cert_chain(*paths)
    return http.client.HTTPSConnection(address, 6443, context=context, timeout=120)


def ask(link: http.client.HTTPSConnection, method: str, path: str, body: bytes, media: str) -> int:
    link.request(method, path, body, {"content-type": media})
    answer = link.getresponse()
    answer.read()
    return answer.status


def bodies() -> Iterator[tuple[str, str, bytes, str]]:
    def pod(**spec: Any) -> bytes:
        return json.dumps({"metadata": {"name": "p"}, "spec": spec}).encode()

    many = {"metadata": {"name": "many"}, "data": {f"k{n}": "v" for n in range(19_000)}}
    yield "POST", f"{DEFAULT}/configmaps", json.dumps(many).encode(), JSON
    empty = b'{"metadata":{"name":"p"},"spec":{"containers":[' + b"{}," * (MIB - 50) + b"{}]}}"
    yield "POST", f"{DEFAULT}/pods", empty, JSON
    yield "POST", f"{DEFAULT}/pods", pod(containers=[{}] * 9900), JSON
    yield "POST", f"{DEFAULT}/pods", pod(containers=[{"name": f"c{n}", "image": "i"} for n in range(1900)]), JSON
    yield "POST", f"{DEFAULT}/configmaps", b"a: [" + b"[]," * 87_000 + b"1]", YAML
    pairs = b",".join(b"a%d: b" % n for n in range(2400))
    yield "POST", f"{DEFAULT}/configmaps", b"metadata: {name: y}\ndata: {" + pairs + b"}", YAML
    operations = [{"op": "test", "path": "/data/k1", "value": "v"}] * 10_000
    yield "PATCH", f"{DEFAULT}/configmaps/many", json.dumps(operations).encode(), "application/json-patch+json"
    changed = {"data": {f"k{n}": "w" for n in range(19_000)}}
    yield "PATCH", f"{DEFAULT}/configmaps/many", json.dumps(changed).encode(), "application/merge-patch+json"
    yield "GET", f"{DEFAULT}/configmaps", b"", JSON
    large = {"metadata": {"name": "large"}, "data": {"a": '\\"x,' * 200_000}}
    yield "POST", f"{DEFAULT}/configmaps", json.dumps(large).encode(), JSON


def attack(kubeconfig: str, address: str) -> None:
    everything, stopped, sent = list(bodies()), threading.Event(), [0] * 6

    def run(number: int) -> None:
        link = connection(kubeconfig, address)
        while not stopped.is_set():
            for method, path, body, media in everything[number:] + everything[:number]:
                if stopped.is_set():
                    break
                try:
                    ask(link, method, path, body, media)
                except OSError:
                    link.close()
                sent[number] += 1

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(sent))]
    for thread in threads:
        thread.start()
    while sum(sent) < len(everything):
        time.sleep(0.01)
    print("begun", flush=True)
    sys.stdin.read()
    stopped.set()
    for thread in threads:
        thread.join()
    print(sum(sent), flush=True)


def work(kubeconfig: str, address: str, count: int) -> None:
    link = connection(kubeconfig, address)
    took: list[float] = []

    def timed(method: str, path: str, expected: int, body: bytes = b"") -> None:
        begun = time.monotonic()
        status = ask(link, method, path, body, JSON)
        took.append(time.monotonic() - begun)
        assert status == expected, (method, path, status)

    for number in range(count):
        obj = {"metadata": {"name": f"w{number}"}, "data": {"a": "b"}}
        timed("POST", f"{DEFAULT}/configmaps", 201, json.dumps(obj).encode())
        timed("GET", f"{DEFAULT}/configmaps/w{number}", 200)
        timed("GET", f"{DEFAULT}/configmaps", 200)
        timed("DELETE", f"{DEFAULT}/configmaps/w{number}", 200)
    print(json.dumps(took))


if __name__ == "__main__":
    if sys.argv[1] == "attack":
        attack(sys.argv[2], sys.argv[3])
    else:
        work(sys.argv[2], sys.argv[3], int(sys.argv[4]))
