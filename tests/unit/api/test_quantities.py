"""Kubernetes quantities as exact integers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.api.quantities import bytes_of, format_bytes, format_millicores, is_quantity, millicores, parse
from kubeedge.errors import Invalid


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("128Mi", 128 * 1024**2),
        ("1.5Gi", 1536 * 1024**2),
        ("1G", 10**9),
        ("1e3", 1000),
        ("2E3", 2000),
        ("1E", 10**18),
        ("100m", 1),
        ("0.1", 1),
        ("12.", 12),
        (".5", 1),
        ("-1", -1),
        ("0", 0),
        (4096, 4096),
        ("9Ei", 2**63 - 1),
    ],
)
def test_bytes_are_exact_and_fractions_round_up(text: str | int, expected: int) -> None:
    assert bytes_of(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("250m", 250), ("1", 1000), (2, 2000), (0.5, 500), ("1.5", 1500), ("100u", 1), ("2k", 2_000_000)],
)
def test_millicores_are_thousandths_of_a_cpu(text: str | int | float, expected: int) -> None:
    assert millicores(text) == expected


@pytest.mark.parametrize(
    "text", ["", "Mi", "1 Gi", "1KiB", "1ki", "0x10", "1e", "1.2.3", "--1", "1e9999", "9" * 65, True, None, [], "٣"]
)
def test_what_is_not_a_quantity_is_refused(text: object) -> None:
    assert not is_quantity(text)
    with pytest.raises(Invalid):
        parse(text)  # type: ignore[arg-type]


@given(st.integers(0, 2**62))
def test_formatting_bytes_loses_nothing(value: int) -> None:
    assert bytes_of(format_bytes(value)) == value


@given(st.integers(0, 10**9))
def test_formatting_millicores_loses_nothing(value: int) -> None:
    assert millicores(format_millicores(value)) == value
