"""Kubernetes' protobuf against what Kubernetes' own serializers write (protobuf/main.go made the pairs)."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kubeedge.api import proto
from kubeedge.api.json_bounds import TooManyValues
from kubeedge.errors import Invalid

PAIRS = [json.loads(line) for line in (Path(__file__).parent / "protobuf/golden.jsonl").read_text().splitlines()]
BODIES = [base64.b64decode(pair["protobuf"]) for pair in PAIRS]


def pruned(value: Any) -> Any:
    """Without what says nothing: Go's JSON has `status: {}`, `targetPort: 0` and `creationTimestamp: null` for structs that it cannot omit."""
    if isinstance(value, dict):
        inner = {key: pruned(item) for key, item in value.items()}
        return {
            k: v
            for k, v in inner.items()
            if v is not None
            and (k, v) != ("targetPort", 0)
            and not (
                v == {}
                and k in ("status", "strategy", "resources", "spec", "metadata", "loadBalancer", "lastState", "state")
            )
        }
    return [pruned(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    "pair",
    PAIRS,
    ids=[
        f"{p['json']['kind']}-{p['json']['metadata']['name'] if p['json'].get('metadata', {}).get('name') else ''}"
        for p in PAIRS
    ],
)
def test_an_object_is_what_its_json_would_have_been(pair: dict[str, Any]) -> None:
    decoded = proto.decode(base64.b64decode(pair["protobuf"]))
    expected = pair["json"]
    assert pruned(decoded) == pruned(expected)


def test_zeros_that_are_values_stay() -> None:
    deployment = proto.decode(BODIES[2])
    assert deployment["spec"]["replicas"] == 0
    spec = deployment["spec"]["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] == 0 and spec["automountServiceAccountToken"] is False
    assert spec["volumes"][1] == {"name": "w", "emptyDir": {}}
    assert spec["securityContext"]["supplementalGroups"] == [1, 300, -1] and spec["priority"] == -7


@settings(max_examples=300)
@given(st.sampled_from(BODIES), st.data())
def test_a_body_that_is_cut_or_changed_is_an_object_or_refused(body: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(body)))
    at = data.draw(st.integers(0, len(body) - 1))
    byte = data.draw(st.integers(0, 255))
    for broken in (body[:cut], body[:at] + bytes((byte,)) + body[at + 1 :]):
        try:
            json.dumps(proto.decode(broken), allow_nan=False).encode()
        except Invalid:
            pass


@given(st.binary(max_size=200))
@example(b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\x7f")
@example(b"\xff" * 30)
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(Invalid):
        proto.decode(b"k8s\0" + noise)


def field(number: int, data: bytes) -> bytes:
    size, length = len(data), b""
    while size >= 0x80:
        length += bytes((size & 0x7F | 0x80,))
        size >>= 7
    return bytes((number << 3 | 2,)) + length + bytes((size,)) + data


def test_a_million_values_are_refused() -> None:
    kind = field(1, field(1, b"v1") + field(2, b"Pod"))
    for spec in (field(2, b"") * 1_000_000, field(14, field(4, b"\1" * 1_000_000))):
        with pytest.raises(TooManyValues):
            proto.decode(b"k8s\0" + kind + field(2, field(2, spec)))


def test_json_inside_counts_with_all_other_values() -> None:
    """A body has room for a hundred texts; each alone is within the bounds of one."""
    text = json.dumps({"a": [[]] * 9_000}).encode()
    entry = b"\x8a\x01" + field(1, field(7, field(1, text)))[1:]  # metadata.managedFields is number 17
    body = proto.MAGIC + field(1, field(1, b"v1") + field(2, b"ConfigMap")) + field(2, field(1, entry * 100))
    with pytest.raises(TooManyValues):
        proto.decode(body)
    one = proto.MAGIC + field(1, field(1, b"v1") + field(2, b"ConfigMap")) + field(2, field(1, entry))
    assert len(proto.decode(one)["metadata"]["managedFields"][0]["fieldsV1"]["a"]) == 9_000
