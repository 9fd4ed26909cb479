"""Makes src/kubeedge/api/proto_table.py from Kubernetes' own Go types: field numbers, JSON names, and what is embedded or a pointer.

    python -m tests.kit.proto_table v0.34.2 > src/kubeedge/api/proto_table.py; ruff format src/kubeedge/api/proto_table.py

The generated.proto files have the numbers, but not which fields JSON has inline, and not which are pointers: Go writes a zero that is no
pointer, too, and its JSON leaves that out. Both are in the tags of the types, from which the .proto files were made. Needs Go; the
modules come from the module proxy.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGES = {
    "v1": ("k8s.io/api", "core/v1"),
    "apps": ("k8s.io/api", "apps/v1"),
    "coordination": ("k8s.io/api", "coordination/v1"),
    "policy": ("k8s.io/api", "policy/v1"),
    "autoscaling": ("k8s.io/api", "autoscaling/v1"),
    "authorization": ("k8s.io/api", "authorization/v1"),
    "authentication": ("k8s.io/api", "authentication/v1"),
    "metav1": ("k8s.io/apimachinery", "pkg/apis/meta/v1"),
}
ROOTS = {
    "v1": "Pod Service Endpoints ConfigMap Secret ServiceAccount Event Namespace Node Binding",
    "apps": "Deployment ReplicaSet DaemonSet",
    "coordination": "Lease",
    "policy": "Eviction",
    "autoscaling": "Scale",
    "authorization": "SelfSubjectAccessReview SelfSubjectRulesReview",
    "authentication": "SelfSubjectReview TokenRequest TokenReview",
    "metav1": "DeleteOptions",
}
SPECIAL = {  # types with a JSON form of their own
    "resource.Quantity": "quantity", "intstr.IntOrString": "intorstr", "metav1.Time": "time", "metav1.MicroTime": "microtime",
    "metav1.FieldsV1": "json", "runtime.RawExtension": "json",
}  # fmt: skip
PLAIN = {
    "string": "str",
    "bool": "bool",
    "int32": "int",
    "int64": "int",
    "float64": "num",
    "int": "int",
    "uint8": "int",
}
STRUCT = re.compile(r"^type (\w+) struct \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
ALIAS = re.compile(r"^type (\w+) ([\w.\[\]]+)$", re.MULTILINE)
FIELD = re.compile(r"^\t(?:(\w+) )?\s*([*\w.\[\]]+)\s+`(.*)`", re.MULTILINE)


def sources(version: str) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(["go", "mod", "init", "x"], cwd=directory, check=True, capture_output=True)
        found = {}
        for module in ("k8s.io/api", "k8s.io/apimachinery"):
            argv = ["go", "mod", "download", "-json", f"{module}@{version}"]
            out = subprocess.run(argv, cwd=directory, check=True, capture_output=True, text=True).stdout
            found[module] = Path(json.loads(out)["Dir"])
    return {name: (found[module] / path / "types.go").read_text() for name, (module, path) in PACKAGES.items()}


class Table:
    def __init__(self, texts: dict[str, str]) -> None:
        self.structs = {f"{p}.{name}": body for p, text in texts.items() for name, body in STRUCT.findall(text)}
        self.aliases = {f"{p}.{name}": kind for p, text in texts.items() for name, kind in ALIAS.findall(text)}
        self.lines: dict[str, list[str]] = {}

    def qualified(self, package: str, name: str) -> str:
        return name if "." in name else f"{package}.{name}"

    def kind(self, package: str, go: str) -> str:
        """Of a Go type without its star: str, [Container], {quantity}..."""
        go = go.removeprefix("*")
        if go == "[]byte":
            return "bytes"
        if go.startswith("[]"):
            return f"[{self.kind(package, go[2:])}]"
        if match := re.fullmatch(r"map\[[\w.]+\](.*)", go):
            return f"{{{self.kind(package, match[1])}}}"
        if go in PLAIN:
            return PLAIN[go]
        name = self.qualified(package, go)
        if name in SPECIAL:
            return SPECIAL[name]
        if name in self.aliases:
            alias = self.aliases[name]
            inner = self.kind(name.split(".")[0], alias)
            return f"&{inner}" if inner.startswith("[") else inner  # a named list is a message with `items` = 1
        if name == "types.UID":
            return "str"
        self.add(name)
        return self.short(name)

    def short(self, name: str) -> str:
        return name.split(".")[1] if name.split(".")[0] in ("v1", "metav1", "apps") else name.replace(".", "_")

    def add(self, name: str) -> None:
        short = self.short(name)
        if short in self.lines:
            return
        rows = self.lines[short] = []
        package = name.split(".")[0]
        for _, go, tags in FIELD.findall(self.structs[name]):
            proto = re.search(r'protobuf:"\w+,(\d+),', tags)
            label = re.search(r'json:"([^"]*)"', tags)
            if proto is None or label is None:
                continue  # TypeMeta, which travels in the envelope
            json_name = label[1].split(",")[0]
            kind = self.kind(package, go)
            always = "omitempty" not in label[1] and kind in (*PLAIN.values(), "bytes")
            star = "*" if go.startswith("*") or always else ""
            rows.append(f"  {proto[1]} {json_name or '-'} {star}{kind}")


def main(version: str) -> None:
    texts = sources(version)
    table = Table(texts)
    for package, names in ROOTS.items():
        for name in names.split():
            table.add(f"{package}.{name}")
    print(
        f'"""Field numbers of the kinds in protobuf, generated from k8s.io/api {version} by tests/kit/proto_table.py: do not edit.'
    )
    print()
    print("    Type")
    print("      number  name (-: its fields are JSON's fields of this type)  kind; *: a zero is a value")
    print('"""')
    print('\nfrom __future__ import annotations\n\nTABLE = """')
    for name, rows in table.lines.items():
        print("\n".join([name, *rows]))
    print('"""')


if __name__ == "__main__":
    main(sys.argv[1])
