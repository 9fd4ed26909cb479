"""A tenant's clients of the API that write what is large, as processes of the bench.

python -m bench.isolation.hostile fill KUBECONFIG ADDRESS        makes ConfigMaps of 1 MB beyond its quota, and goes on
python -m bench.isolation.hostile rewrite KUBECONFIG ADDRESS     one ConfigMap of 1 MB, again and again

Each says "begun" after its first request, goes on until its input ends, at most LIMIT times, and says how often each status was answered.
"""

from __future__ import annotations

import collections
import json
import select
import sys

from tests.kit.bodies import DEFAULT, JSON, ask, connection

LIMIT = 2000
SIZE = 1_000_000


def body(name: str, number: int) -> bytes:
    return json.dumps({"metadata": {"name": name}, "data": {"k": f"{number:08}" * (SIZE // 8)}}).encode()


def main(what: str, kubeconfig: str, address: str) -> None:
    link, said = connection(kubeconfig, address), collections.Counter[int]()
    if what == "rewrite":
        ask(link, "POST", f"{DEFAULT}/configmaps", body("large", 0), JSON)
    for number in range(1, LIMIT + 1):
        if what == "rewrite":
            status = ask(link, "PUT", f"{DEFAULT}/configmaps/large", body("large", number), JSON)
        else:
            status = ask(link, "POST", f"{DEFAULT}/configmaps", body(f"large{number}", number), JSON)
        said[status] += 1
        if number == 1:
            print("begun", flush=True)
        if select.select([sys.stdin], [], [], 0)[0]:
            break
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
