from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.api.names import NodeName, TenantId
from kubeedge.errors import Conflict, Refused
from kubeedge_cloud.bootstrap import core

EDGE1, EDGE2 = NodeName("edge1"), NodeName("edge2")
FRESH = core.TokenRecord("k3x9f2", TenantId("default"), "edge1", "hash", created=1000.0, expires=2000.0)
USED = replace(FRESH, used=1500.0, used_by="edge1", used_key="key1")


def test_a_fresh_token_makes_its_node_until_it_expires():
    core.check(FRESH, EDGE1, "key1", 1999.9)
    with pytest.raises(Refused, match="expired 0 seconds ago"):
        core.check(FRESH, EDGE1, "key1", 2000.0)
    with pytest.raises(Refused, match="expired 3 days ago"):
        core.check(FRESH, EDGE1, "key1", 2000.0 + 3 * 86400)


def test_a_token_without_a_name_makes_any_node():
    core.check(replace(FRESH, node=""), EDGE2, "key1", 1001.0)


def test_each_reason_has_its_own_message_and_says_what_to_do():
    for record, node, words, advice in (
        (FRESH, EDGE2, "for node edge1, not for edge2", "--name edge1"),
        (replace(FRESH, revoked=True), EDGE1, "was revoked", "kubeedge token create"),
        (replace(USED, revoked=True), EDGE1, "was revoked", "kubeedge token create"),
        (USED, EDGE1, "used already, for node edge1", "kubeedge token create"),
    ):
        with pytest.raises(Refused, match=words) as error:
            core.check(record, node, "another key", 1501.0)
        assert advice in error.value.__notes__[0]


def test_only_the_same_machine_may_ask_again_and_only_for_a_while():
    core.check(USED, EDGE1, "key1", 1500.0 + 599)
    with pytest.raises(Refused, match="used already"):
        core.check(USED, EDGE1, "key1", 1500.0 + 600)
    with pytest.raises(Refused, match="used already"):
        core.check(USED, EDGE1, "key2", 1501.0)
    with pytest.raises(Refused, match="used already"):
        core.check(replace(USED, node=""), EDGE2, "key1", 1501.0)
    with pytest.raises(Refused, match="used already"):
        core.check(replace(USED, used_key=""), EDGE1, "", 1501.0)


def test_a_claimed_name_is_taken_unless_the_token_replaces():
    claim = core.Claim(serial="1", previous="", token="other", issued=1.0)
    core.check_name(FRESH, EDGE1, None)
    core.check_name(replace(FRESH, replace=True), EDGE1, claim)
    core.check_name(FRESH, EDGE1, replace(claim, token=FRESH.id))  # the answer was lost
    with pytest.raises(Conflict, match="node edge1 exists in tenant default"):
        core.check_name(FRESH, EDGE1, claim)


def test_the_last_two_certificates_of_a_name_are_renewed_and_no_other():
    claim = core.Claim(serial="c", previous="b", token="t", issued=1.0)
    core.check_renewal(EDGE1, "c", claim)
    core.check_renewal(EDGE1, "b", claim)
    with pytest.raises(Refused, match="replaced by a later one"):
        core.check_renewal(EDGE1, "a", claim)
    with pytest.raises(Refused, match="replaced by a later one"):
        core.check_renewal(EDGE1, "", replace(claim, previous=""))
    with pytest.raises(Refused, match="not known here any more"):
        core.check_renewal(EDGE1, "c", None)


def test_ten_failures_in_a_minute_silence_one_source_for_the_rest_of_it():
    limit = core.FailureLimit(10)
    for n in range(10):
        assert limit.wait("192.0.2.1", 100.0 + n) == 0.0
        limit.failed("192.0.2.1", 100.0 + n)
    assert limit.wait("192.0.2.1", 110.0) == 50.0
    assert limit.wait("192.0.2.2", 110.0) == 0.0
    assert limit.wait("192.0.2.1", 160.0) == 0.0
    limit.failed("192.0.2.1", 160.0)  # the first is forgotten: the second counts
    assert limit.wait("192.0.2.1", 160.5) == 0.5


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.floats(0, 1000)), max_size=200))
def test_the_memory_of_failures_is_bounded(failures):
    limit = core.FailureLimit(3, sources=16)
    for address, now in failures:
        limit.failed(f"10.{address >> 16 & 255}.{address >> 8 & 255}.{address & 255}", now)
    assert len(limit._seen) <= 16
    assert all(len(times) <= 3 for times in limit._seen.values())
