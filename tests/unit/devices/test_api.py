"""Devices and their models as objects: values, rules, and CRDs that say the same as the embedded API."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.api import devices, schema
from kubeedge.apiserver.devices import STORED
from kubeedge_cloud.devicecontroller.crds import definitions, rule_definitions

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("kind", "text", "why"),
    [
        ("INT", "12", ""),
        ("INT", "-1", "less than the minimum"),
        ("INT", "101", "greater than the maximum"),
        ("INT", "1.5", "integer"),
        ("INT", "", "integer"),
        ("INT", "9" * 100_000, "longer than"),
        ("INT", "9" * 60, "integer"),
        ("INT", "\u0663", "integer"),
        ("FLOAT", "1e1", ""),
        ("FLOAT", "nan", "finite"),
        ("DOUBLE", "inf", "finite"),
        ("DOUBLE", "1e999", "finite"),
        ("BOOLEAN", "true", ""),
        ("BOOLEAN", "yes", "true"),
        ("STRING", "caf\u00e9 " * 9, ""),
        ("STRING", "\u00e9" * 32769, "longer than"),
    ],
)
def test_a_value_fits_its_property_or_is_refused_with_the_reason(kind: str, text: str, why: str) -> None:
    found = devices.refusal({"type": kind, "minimum": "0", "maximum": "100"}, text)
    assert why in found if why else not found


@given(st.text(), st.sampled_from(devices.TYPES), st.text(max_size=8))
def test_no_text_breaks_the_check(text: str, kind: str, bound: str) -> None:
    assert isinstance(devices.refusal({"type": kind, "minimum": bound}, text), str)


def test_one_number_has_several_texts() -> None:
    assert devices.same_value("1.0", "1") and devices.same_value("a", "a")
    assert not devices.same_value("nan", "NaN") and not devices.same_value("1", "2")


def test_rules_name_the_field() -> None:
    bad = {"spec": {"properties": [{"name": "a/b"}, {"name": "t"}, {"name": "t"}, {"desired": {"value": "1"}}]}}
    found = {error.path for error in devices.device(bad)}
    assert found == {
        "spec.properties[0].name",
        "spec.properties[2].name",
        "spec.properties[3].name",
        "spec.deviceModelRef.name",
    }
    model = {"spec": {"properties": [{"name": "t", "type": "int"}, {"name": "u", "type": "STRING", "minimum": "1"}]}}
    assert [error.path for error in devices.devicemodel(model)] == [
        "spec.properties[0].type",
        "spec.properties[1].minimum",
    ]


def test_the_crds_of_a_cluster_are_made_from_the_tables_of_the_embedded_api() -> None:
    kept = list(yaml.safe_load_all((ROOT / "cloud/crds/devices.yaml").read_text()))
    assert kept == definitions(), "python -m kubeedge_cloud.devicecontroller > cloud/crds/devices.yaml"
    for row, crd in zip(STORED, kept, strict=True):
        stored, older = crd["spec"]["versions"]
        assert (stored["name"], stored["storage"]) == (row.resource.version, True)
        assert (older["name"], older["storage"], older["served"]) == ("v1alpha2", False, True)
        assert crd["spec"]["conversion"]["strategy"] == "Webhook"
        for version, kind in ((stored, row.resource.kind), (older, f"{row.resource.kind}V1alpha2")):
            fields = version["schema"]["openAPIV3Schema"]["properties"]
            assert fields.keys() == (schema.fields_of(kind) or {}).keys()
    kept = list(yaml.safe_load_all((ROOT / "cloud/crds/rules.yaml").read_text()))
    assert kept == rule_definitions(), "python -m kubeedge_cloud.devicecontroller rules > cloud/crds/rules.yaml"
