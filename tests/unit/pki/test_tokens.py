from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.errors import Invalid, Refused
from kubeedge.pki import core, identity, tokens
from kubeedge.pki.der import Validity

HASH = "5f" * 32
text_of = st.text(tokens.ALPHABET, min_size=tokens.ID_LENGTH, max_size=tokens.ID_LENGTH)
GOOD = f"{HASH}.k3x9f2.{'a' * 32}"


def test_a_token_is_read_back_from_its_text_even_with_a_line_end():
    token = tokens.parse(GOOD + "\n")
    assert (token.ca_hash, token.id, token.secret, str(token)) == (HASH, "k3x9f2", "a" * 32, GOOD)


def test_a_token_in_a_log_shows_no_secret():
    assert repr(tokens.parse(GOOD)) == "Token(k3x9f2)"


@pytest.mark.parametrize(
    "text", ["", "null", GOOD[:-1], GOOD + "a", GOOD.upper(), GOOD.replace(".", ":"), "." * 200, GOOD + "." + GOOD]
)
def test_what_is_no_token_is_refused_without_repeating_it(text):
    with pytest.raises(Invalid) as error:
        tokens.parse(text)
    assert "was it cut?" in str(error.value)
    assert "a" * 20 not in str(error.value).lower()


@given(st.text(max_size=200))
def test_no_text_breaks_the_reader(text):
    with pytest.raises(Invalid):
        tokens.parse(text)


def test_a_secret_matches_its_hash_and_no_other():
    kept = tokens.hash_secret("a" * 32)
    assert tokens.secret_matches("a" * 32, kept)
    assert not tokens.secret_matches("b" * 32, kept)
    assert not tokens.secret_matches("ä", kept)


def test_a_certificate_is_renewed_around_two_thirds_of_its_life():
    year = Validity(0.0, 300.0)
    assert core.renewal_time(year, 0.5) == pytest.approx(200.0)
    assert core.renewal_time(year, 0.0) == pytest.approx(170.0)
    assert core.renewal_time(year, 1.0) == pytest.approx(230.0)


def test_a_failed_renewal_is_tried_again_from_every_minute_to_every_hour():
    assert [core.retry_delay(n) for n in (1, 2, 3, 6, 7, 99)] == [60, 120, 240, 1920, 3600, 3600]


@given(st.text(max_size=80))
def test_no_uri_names_an_identity_that_does_not_write_itself_so(uri):
    for candidate in (uri, "spiffe://kubeedge/tenant/" + uri, "spiffe://kubeedge/cloud/" + uri):
        try:
            who = identity.parse(candidate)
        except Refused:
            continue
        assert who.uri == candidate


@pytest.mark.parametrize(
    "certificate",
    [
        None,
        {},
        {"subjectAltName": (("DNS", "edge1"),)},
        {"subjectAltName": (("URI", "spiffe://kubeedge/cloud/a"), ("URI", "spiffe://kubeedge/cloud/b"))},
        {"subjectAltName": (("URI", "spiffe://kubeedge/tenant/a/node/b/../c"),)},
        {"subjectAltName": (("URI", "spiffe://other/tenant/a/node/b"),)},
    ],
)
def test_a_certificate_without_exactly_one_name_of_ours_is_nobody(certificate):
    with pytest.raises(Refused):
        identity.of_peer(certificate)
