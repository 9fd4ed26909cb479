"""Prints the CustomResourceDefinitions, for `kubectl apply -f -`."""

from __future__ import annotations

import yaml

from kubeedge_cloud.devicecontroller.crds import definitions

if __name__ == "__main__":
    print(yaml.safe_dump_all(definitions(), sort_keys=False, width=120), end="")
