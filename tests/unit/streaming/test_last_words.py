"""A client of SPDY hears that its node was cut off, behind whole frames, once, and only if it has not heard how it ended."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from kubeedge.streaming.last_words import LastWords
from kubeedge.streaming.spdy import DataReceived, Spdy, StreamEnded


def session() -> tuple[Spdy, Spdy, LastWords, int, int]:
    client, node, words = Spdy(client=True), Spdy(), LastWords(structured=True)
    error, stdout = client.open({"streamType": "error"}), client.open({"streamType": "stdout"})
    opened = client.data_to_send()
    for at in range(len(opened)):
        words.from_client(opened[at : at + 1])
    node.receive_data(opened)
    for stream in (error, stdout):
        node.reply(stream)
    return client, node, words, error, stdout


@given(st.integers(0, 2000), st.lists(st.integers(1, 700), max_size=10))
def test_a_node_that_is_cut_off_anywhere_is_told_behind_whole_frames(cut: int, pieces: list[int]) -> None:
    client, node, words, error, stdout = session()
    for size in pieces:
        node.send(stdout, b"x" * size)
    sent = node.data_to_send()[:cut]
    came = b"".join(words.from_node(sent[at : at + 100]) for at in range(0, len(sent), 100))
    assert sent.startswith(came)
    events = client.receive_data(came + words.at_the_end("cut off"))
    said = b"".join(e.data for e in events if isinstance(e, DataReceived) and e.stream == error)
    assert json.loads(said)["message"] == "cut off" and events[-1] == StreamEnded(error)
    assert words.at_the_end("again") == b""


def test_who_has_heard_the_end_hears_nothing_more() -> None:
    client, node, words, error, stdout = session()
    node.send(error, b"{}")
    node.end(error)
    sent = node.data_to_send()
    assert words.from_node(sent) == sent and words.at_the_end("cut off") == b""


def test_a_frame_that_is_too_large_to_be_held_passes_and_nothing_is_put_into_it() -> None:
    client, node, words, error, stdout = session()
    node.send(stdout, b"x" * 200_000)
    sent = node.data_to_send()
    assert words.from_node(sent[:1000]) and words.at_the_end("cut off") == b""
    rest = words.from_node(sent[1000:])
    assert sent.endswith(rest) and words.at_the_end("cut off") != b""


def test_a_client_that_is_no_client_of_spdy_is_passed_over() -> None:
    words = LastWords(structured=True)
    words.from_client(b"x" * 100_000)
    assert words.at_the_end("cut off") == b""
