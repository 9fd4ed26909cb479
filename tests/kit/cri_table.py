"""Makes src/kubeedge/appengine/runtime/cri/table.py from the api.proto of k8s.io/cri-api: the messages of the calls that we make.

    python -m tests.kit.cri_table v0.37.2 > src/kubeedge/appengine/runtime/cri/table.py

Needs Go; the module comes from the module proxy.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

CALLS = """Version Status RuntimeConfig UpdateRuntimeConfig RunPodSandbox StopPodSandbox RemovePodSandbox PodSandboxStatus ListPodSandbox
CreateContainer StartContainer StopContainer RemoveContainer ListContainers ContainerStatus UpdateContainerResources ReopenContainerLog
ExecSync Exec Attach PortForward ContainerStats ListContainerStats ListPodSandboxStats GetContainerEvents
ListImages ImageStatus PullImage RemoveImage ImageFsInfo""".split()
PLAIN = {
    "string": "str", "bool": "bool", "bytes": "raw", "double": "num",
    **dict.fromkeys(("int32", "int64", "uint32", "uint64"), "int"),
}  # fmt: skip
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
FIELD = re.compile(
    r"(repeated\s+)?(map\s*<\s*string\s*,\s*([\w.]+)\s*>|[\w.]+)\s+(\w+)\s*=\s*(\d+)\s*(?:\[[^\]]*\])?\s*;"
)
RPC = re.compile(r"rpc (\w+)\((\w+)\) returns \((?:stream )?(\w+)\)")


def blocks(text: str, word: str) -> dict[str, str]:
    """Name -> body of each block at the top, whatever is nested in it."""
    found = {}
    for match in re.finditer(rf"^{word} (\w+)\s*\{{", text, re.MULTILINE):
        depth, at = 1, match.end()
        while depth:
            depth += {"{": 1, "}": -1}.get(text[at], 0)
            at += 1
        found[match[1]] = text[match.end() : at - 1]
    return found


def table(text: str) -> dict[str, list[str]]:
    text = COMMENT.sub("", text)
    messages = blocks(text, "message")
    enums = set(re.findall(r"enum (\w+)", text))
    lines: dict[str, list[str]] = {}

    def kind(name: str) -> str:
        if name in PLAIN:
            return PLAIN[name]
        if name in enums:
            return "int"
        add(name)
        return name

    def add(name: str) -> None:
        if name in lines or name.startswith("Windows"):
            return
        rows = lines[name] = []
        body = re.sub(r"enum \w+\s*\{[^}]*\}", "", messages[name])
        for repeated, whole, value, label, number in FIELD.findall(body):
            if whole.startswith("Windows"):
                continue
            if value:
                written = f"{{{kind(value)}}}"
            else:
                inner = kind(whole)
                written = f"[{inner}]" if repeated else inner if inner in PLAIN.values() else f"*{inner}"
            rows.append(f"  {number} {label} {written}")

    for call, asked, answered in RPC.findall(text):
        if call in CALLS:
            add(asked)
            add(answered)
    return lines


def main(version: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(["go", "mod", "init", "x"], cwd=directory, check=True, capture_output=True)
        argv = ["go", "mod", "download", "-json", f"k8s.io/cri-api@{version}"]
        out = subprocess.run(argv, cwd=directory, check=True, capture_output=True, text=True).stdout
    text = (Path(json.loads(out)["Dir"]) / "pkg/apis/runtime/v1/api.proto").read_text()
    print(
        f'"""Field numbers of CRI v1, generated from k8s.io/cri-api {version} by tests/kit/cri_table.py: do not edit."""'
    )
    print('\nfrom __future__ import annotations\n\nTABLE = """')
    for name, rows in table(text).items():
        print("\n".join([name, *rows]))
    print('"""')


if __name__ == "__main__":
    main(sys.argv[1])
