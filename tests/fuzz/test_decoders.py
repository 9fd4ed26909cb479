"""The corpus of every Python decoder, and damaged variants of it: refused or understood, never another error, never much memory."""

from __future__ import annotations

import tracemalloc

import pytest

from kubeedge.sync.codec import MAX_BODY
from tests.fuzz.decoders import CORPUS, DECODERS, mutations


@pytest.mark.parametrize("name", DECODERS)
def test_no_input_of_the_corpus_and_nothing_like_it_breaks_its_decoder(name: str) -> None:
    inputs = [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]
    assert len(inputs) >= 5, "python -m tests.fuzz.decoders --seed makes the first ones"
    tracemalloc.start()
    try:
        for n, data in enumerate(inputs):
            DECODERS[name](data)
            for damaged in mutations(data, 150, seed=n):
                DECODERS[name](damaged)
        assert tracemalloc.get_traced_memory()[1] < 4 * MAX_BODY
    finally:
        tracemalloc.stop()
