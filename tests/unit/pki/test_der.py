from __future__ import annotations

import datetime
import subprocess
import sys

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID
from hypothesis import example, given
from hypothesis import strategies as st

from kubeedge.errors import Invalid
from kubeedge.pki import der
from kubeedge_cloud.authority import csr

KEY = csr.new_key()


def certificate(not_before: datetime.datetime, not_after: datetime.datetime, name: str = "x") -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(KEY.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .sign(KEY, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )


moments = st.datetimes(datetime.datetime(1951, 1, 1), datetime.datetime(2200, 1, 1)).map(
    lambda t: t.replace(microsecond=0, tzinfo=datetime.UTC)
)


@given(moments, moments)
@example(datetime.datetime(2049, 12, 31, tzinfo=datetime.UTC), datetime.datetime(2050, 1, 1, tzinfo=datetime.UTC))
def test_the_dates_are_those_that_the_certificate_was_made_with(a, b):
    a, b = min(a, b), max(a, b)
    assert der.validity(certificate(a, b)) == der.Validity(a.timestamp(), b.timestamp())


def test_text_around_the_certificate_does_not_matter():
    now = datetime.datetime(2026, 11, 23, tzinfo=datetime.UTC)
    pem = b"Certificate of edge1\n" + certificate(now, now + datetime.timedelta(1)) + certificate(now, now)
    assert der.validity(pem).not_after == (now + datetime.timedelta(1)).timestamp()


GOOD = certificate(datetime.datetime(2026, 1, 1), datetime.datetime(2027, 1, 1))


@given(st.integers(0, len(GOOD) - 1), st.binary(max_size=3))
def test_a_damaged_certificate_is_invalid_or_still_has_dates(position, garbage):
    try:
        assert isinstance(der.validity(GOOD[:position] + garbage + GOOD[position + 1 :]), der.Validity)
    except Invalid:
        pass


@pytest.mark.parametrize(
    "text", [b"", b"null", GOOD[:200], b"-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----"]
)
def test_what_is_no_certificate_is_invalid(text):
    with pytest.raises(Invalid):
        der.validity(text)


def test_the_agent_reads_dates_without_a_cryptography_library():
    code = "import sys, kubeedge.pki.module, kubeedge.pki.trust; print('cryptography' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
