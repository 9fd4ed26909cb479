"""Why a spec fails on our nodes: by its name and what it said. What nobody has looked into is not named."""

from __future__ import annotations

import re

from bench.conformance.suite import Outcome

#: (name of the spec, its message, cause): the first whose both parts are found
CAUSES: tuple[tuple[str, str, str], ...] = ()

UNKNOWN = "not looked into"


def cause(outcome: Outcome) -> str:
    """In words; UNKNOWN."""
    for name, message, words in CAUSES:
        if re.search(name, outcome.spec) and re.search(message, outcome.message, re.DOTALL):
            return words
    return UNKNOWN
