"""What of a URL is shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.kit.shown_url import shown_url

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.com/a.bundle", "https://example.com/a.bundle"),
        (f"https://example.com/a.bundle?X-Amz-Signature={SECRET}&x=1", "https://example.com/a.bundle?..."),
        (f"https://user:{SECRET}@example.com:8443/a", "https://example.com:8443/a"),
        (f"https://{SECRET}@example.com/a", "https://example.com/a"),
        (f"rtsp://user:{SECRET}@[2001:db8::1]:554/live", "rtsp://[2001:db8::1]:554/live"),
        ("http://[2001:db8::1]/live", "http://[2001:db8::1]/live"),
        (f"https://example.com/a#{SECRET}", "https://example.com/a"),
        (f"https://u:{SECRET}/{SECRET}@example.com/a", "https://..."),
        (f"https://u:{SECRET}?{SECRET}@example.com/a", "https://...?..."),
        (f"https://u:{SECRET}@h/x://y", "https://h/x://y"),
        (f"/cgi-bin/snapshot?user=admin&password={SECRET}", "/cgi-bin/snapshot?..."),
        (f"user:{SECRET}@registry.example:5000", "registry.example:5000"),
        ("https://example.com/@scope/package", "https://example.com/@scope/package"),
        ("", ""),
        ("?" + SECRET, "?..."),
    ],
)
def test_what_may_be_secret_is_not_shown(url, shown):
    assert shown_url(url) == shown


def test_it_is_short():
    assert shown_url("https://h/" + "a" * 4000) == "https://h/" + "a" * 190
    assert shown_url("https://h/" + "a" * 4000 + "?b") == ("https://h/" + "a" * 4000)[:196] + "?..."


@given(st.text(max_size=300))
def test_any_text_may_come(text):
    shown = shown_url(text)
    assert len(shown) <= 200 and "#" not in shown


_WORD = st.text("abcdefghijklmnopqrstuvwxyz0123456789-._~", min_size=1, max_size=20)


@given(_WORD, _WORD, _WORD, st.text("abcXYZ0123456789=&/?:@%", max_size=60))
def test_of_a_whole_url_host_and_path_are_shown(user, host, path, query):
    assert shown_url(f"https://{user}:{user}@{host}/{path}?{query}") == f"https://{host}/{path}" + (
        "?..." if query else ""
    )
