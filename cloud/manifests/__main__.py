"""`make manifests`: what is generated from code or from the chart, for readers and for Helm, which run neither.

    files/*rules.yaml of the chart  from kubeedge_cloud.install.permissions
    files/crds.yaml of the chart    from cloud/crds
    cloud/manifests/NAME.yaml       from the chart, with the values of VARIANTS

A test compares them with what is there.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from kubeedge_cloud.install import chart, permissions
from kubeedge_cloud.install.apply import namespace_object
from kubeedge_cloud.install.values import with_sets

HERE = Path(__file__).parent
_FILES = HERE.parent / "chart/kubeedge/files"
RULES = {
    _FILES / "rules.yaml": permissions.rules_file(),
    _FILES / "approval-rules.yaml": permissions.rules_file(permissions.APPROVAL_RULES),
    _FILES / "gateway-rules.yaml": permissions.rules_file(permissions.GATEWAY_RULES),
    _FILES / "device-rules.yaml": permissions.rules_file(permissions.DEVICE_RULES),
    _FILES / "crds.yaml": "---\n".join(
        (HERE.parent / f"crds/{name}.yaml").read_text() for name in ("devices", "rules")
    ),
}
#: the addresses are to be replaced
VARIANTS = {
    "loadbalancer": ["advertise={cloud.example.org}"],
    "hostnetwork": ["advertise={cloud.example.org}", "expose.type=HostNetwork"],
    "nodeport": ["advertise={cloud.example.org}", "expose.type=NodePort"],
}
_HEAD = """\
# The cloud side of KubeEdge: kubectl apply --server-side -f {name}.yaml
# Made from the chart with {sets}; replace cloud.example.org by the address that nodes use.
"""


def files() -> dict[Path, str]:
    """Their texts by their paths."""
    found = chart.load(HERE.parent / "chart/kubeedge")
    result = dict(RULES)
    for name, sets in VARIANTS.items():
        values = with_sets({}, sets)
        objects = [
            namespace_object("kubeedge", found.values(values)),
            *found.render(values, namespace="kubeedge", service="kubectl"),
        ]
        text = "".join(f"---\n{yaml.safe_dump(each, sort_keys=False, width=10**6)}" for each in objects)
        result[HERE / f"{name}.yaml"] = _HEAD.format(name=name, sets=" ".join(f"--set {each}" for each in sets)) + text
    return result


if __name__ == "__main__":
    for path, text in RULES.items():  # the chart that is rendered has them
        path.write_text(text, encoding="utf-8")
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
