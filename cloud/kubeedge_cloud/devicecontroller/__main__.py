"""Prints the CustomResourceDefinitions of devices, for `kubectl apply -f -`, or with the argument `rules` those of rules; with `convert` the objects on
standard input, those of v1alpha2 as objects of v1beta1."""

from __future__ import annotations

import sys

import yaml

from kubeedge.api.client import Resource
from kubeedge.api.names import Object
from kubeedge.apiserver.devices import ROWS
from kubeedge_cloud.devicecontroller.crds import definitions, rule_definitions


def converted(text: str) -> str:
    """Manifests in YAML, with v1beta1 where v1alpha2 was."""
    found = []
    for obj in yaml.safe_load_all(text):
        row = next((row for row in ROWS if isinstance(obj, dict) and _is_of(obj, row.resource)), None)
        found.append(obj if row is None or row.conversion is None else row.conversion.to_stored(obj))
    return yaml.safe_dump_all(found, sort_keys=False, width=120)


def _is_of(obj: Object, resource: Resource) -> bool:
    return (obj.get("apiVersion"), obj.get("kind")) == (resource.api_version, resource.kind)


if __name__ == "__main__":
    if sys.argv[1:] == ["convert"]:
        print(converted(sys.stdin.read()), end="")
    else:
        found = rule_definitions() if sys.argv[1:] == ["rules"] else definitions()
        print(yaml.safe_dump_all(found, sort_keys=False, width=120), end="")
