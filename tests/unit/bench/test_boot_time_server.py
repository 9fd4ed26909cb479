"""The time server of an emulated machine is one that a card takes the time of."""

from __future__ import annotations

import pytest

from bench.boot import time_server
from kubeedge_card import sntp


@pytest.mark.parametrize("now", [1_800_000_000.25, 2_300_000_000.5])
def test_a_card_reads_its_answer(now: float) -> None:
    assert sntp.answer(time_server.answer(sntp.request(1 << 63 | 7), now), 1 << 63 | 7, 1_700_000_000) == pytest.approx(
        now
    )
