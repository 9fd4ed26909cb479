"""The registry of resources: what may be registered, and that nothing built in can be taken over."""

from __future__ import annotations

import pytest

from kubeedge.api.client import Resource
from kubeedge.api.resources import PODS, Resources, Row
from kubeedge.api.status import NoSuchPath
from kubeedge.apiserver.builtin import BUILT_IN
from kubeedge.errors import Misuse

FLOWERS = Resource("garden.example.com", "v1", "flowers", "Flower")


def test_a_row_comes_and_goes() -> None:
    served = Resources(BUILT_IN)
    before = served.rows
    row = Row(FLOWERS, "flower", ("fl",))
    served.register(row)
    assert served.row_of(FLOWERS) is served.by_kind("garden.example.com/v1", "Flower") is row
    assert ("garden.example.com", "v1") in served.group_versions() and served.group_versions()[0] == ("", "v1")
    served.remove(FLOWERS)
    assert served.rows == before
    with pytest.raises(NoSuchPath):
        served.row_of(FLOWERS)
    with pytest.raises(NoSuchPath):
        served.remove(FLOWERS)


def test_what_one_api_serves_is_its_own() -> None:
    first, second = Resources(BUILT_IN), Resources(BUILT_IN)
    first.register(Row(FLOWERS, "flower"))
    assert second.by_path("garden.example.com", "v1", "flowers") is None


@pytest.mark.parametrize(
    "resource",
    [
        PODS,
        Resource("", "v1", "flowers", "Flower"),
        Resource("core", "v1", "pods", "Pod"),  # its keys would be those of the pods
        Resource("apps", "v1", "flowers", "Flower"),
        Resource("garden.example.com", "v1", "flowers/../pods", "Flower"),
        Resource("garden.example.com", "v1", "Flowers", "Flower"),
        Resource("garden.example.com", "v1", "", "Flower"),
        Resource("garden.example.com", "v1", "f" * 64, "Flower"),
        Resource("garden.example.com/x", "v1", "flowers", "Flower"),
        Resource("garden..com", "v1", "flowers", "Flower"),
        Resource("garden.example.com", "v1", "trees", "Tree"),
        Resource("garden.example.com", "v2", "trees", "Tree"),  # one version of each
        Resource("garden.example.com", "v1", "oaks", "Tree"),
    ],
)
def test_what_cannot_be_served_is_refused(resource: Resource) -> None:
    served = Resources(BUILT_IN)
    served.register(Row(Resource("garden.example.com", "v1", "trees", "Tree"), "tree"))
    rows = served.rows
    with pytest.raises(Misuse):
        served.register(Row(resource, "flower"))
    assert served.rows == rows
