"""The chart in this package: rendered as `helm template` renders it, without Helm."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

import kubeedge_cloud
from kubeedge.api.names import Object
from kubeedge.errors import Invalid
from kubeedge_cloud.install import values as chart_values
from kubeedge_cloud.install.functions import merged
from kubeedge_cloud.install.template import Templates

#: what others need first, in this order; every other kind comes after them
_FIRST = (
    "Namespace", "NetworkPolicy", "PodDisruptionBudget", "ServiceAccount", "Secret", "ConfigMap", "PersistentVolumeClaim",
    "CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "Service",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Chart:
    """The files of a Helm chart, read into memory: templates, default values, Chart.yaml."""

    metadata: Mapping[str, Any]
    defaults: Mapping[str, Any]
    schema: Mapping[str, Any]
    files: Mapping[str, str]
    crds: tuple[Object, ...] = ()
    templates: Templates = field(default_factory=lambda: Templates({}))

    @property
    def version(self) -> str:
        """The version of the program that the chart installs."""
        return str(self.metadata["appVersion"])

    def values(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The defaults with `given` over them, checked by the schema. Raises Invalid."""
        result = merged(self.defaults, given)
        chart_values.check(result, self.schema)
        return result

    def render(
        self, given: Mapping[str, Any], *, namespace: str, release: str = "kubeedge", service: str = "Helm"
    ) -> list[Object]:
        """The objects for these values, in the order in which they are created. `service`: who manages them. Raises Invalid."""
        root = {
            "Values": self.values(given),
            "Chart": {_upper(key): value for key, value in self.metadata.items()},
            "Release": {"Name": release, "Namespace": namespace, "Service": service},
            "Files": {"Get": lambda name: self.files.get(name, "")},
        }
        found: list[Object] = []
        for name in self.templates.names():
            if not name.endswith((".yaml", ".yml")):
                continue
            try:
                found += [each for each in yaml.safe_load_all(self.templates.render(name, root)) if each]
            except yaml.YAMLError as exc:
                raise Invalid(f"{name} gives no YAML: {exc}") from exc
        return sorted(found, key=order)


def order(each: Object) -> tuple[int, str, str]:
    """The position of an object in the order of creation."""
    kind = str(each["kind"])
    return (_FIRST.index(kind) if kind in _FIRST else len(_FIRST)), kind, str(each["metadata"]["name"])


def directory() -> Path:
    """Where the chart is: in the package, or, in a source tree, beside it."""
    package = Path(kubeedge_cloud.__file__).parent
    inside = package / "chart"
    return inside if inside.is_dir() else package.parent / "chart/kubeedge"


def load(path: Path | None = None) -> Chart:
    """The chart of a directory, ours unless it is named. Raises Invalid."""
    root = path or directory()
    try:
        read = {
            str(each.relative_to(root)): each.read_text(encoding="utf-8")
            for each in sorted(root.rglob("*"))
            if each.is_file()
        }
        metadata, defaults = yaml.safe_load(read["Chart.yaml"]), yaml.safe_load(read["values.yaml"])
        schema = json.loads(read.get("values.schema.json", "{}"))
        crds = tuple(
            each
            for name, text in read.items()
            if re.match(r"crds/.*\.ya?ml$", name)
            for each in yaml.safe_load_all(text)
            if each
        )
    except KeyError as exc:
        raise Invalid(f"{root} is not a chart: it has no {exc.args[0]}") from exc
    except (OSError, ValueError, yaml.YAMLError) as exc:
        raise Invalid(f"the chart in {root} cannot be read: {exc}") from exc
    sources = {name: text for name, text in read.items() if name.startswith("templates/")}
    return Chart(metadata, defaults, schema, read, crds, Templates(sources))


def _upper(key: str) -> str:
    return key[:1].upper() + key[1:]
