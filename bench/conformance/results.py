"""bench/results/conformance.json: what is known of each spec from its last run, and a table of it by special interest group."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.conformance.causes import cause
from bench.conformance.suite import Outcome

STATES = ("passed", "failed", "skipped")
_SIG = re.compile(r"\[(sig-[a-z-]+)\]")
_LONGEST = 600  # characters of a message


def merged(before: dict[str, Any], found: Iterable[Outcome], **facts: Any) -> dict[str, Any]:
    """The whole document: `before` with these outcomes and facts (machine, versions) instead of older ones. The commit is that of each spec's run."""
    specs: dict[str, dict[str, Any]] = dict(before.get("specs", {}))
    for outcome in found:
        specs[outcome.spec] = _entry(outcome, str(facts.get("commit", "")))
    for name, entry in specs.items():  # all: causes become known later than failures
        if entry["state"] == "failed":
            entry["cause"] = cause(Outcome(name, "failed", entry.get("message", ""), entry["seconds"]))
    return {**facts, "table": table(specs), "specs": dict(sorted(specs.items()))}


def _entry(outcome: Outcome, commit: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"state": outcome.state, "seconds": round(outcome.seconds, 1), "commit": commit}
    if outcome.message:
        entry["message"] = outcome.message[:_LONGEST]
    return entry


def table(specs: dict[str, dict[str, Any]]) -> dict[str, dict[str, int]]:
    """How many of each state: by group, and of all."""
    counts: dict[str, dict[str, int]] = {}
    for name, entry in specs.items():
        for group in (sig(name), "all"):
            row = counts.setdefault(group, dict.fromkeys(STATES, 0))
            row[entry["state"]] += 1
    return dict(sorted(counts.items()))


def sig(spec: str) -> str:
    """The special interest group that owns a spec: sig-node."""
    found = _SIG.search(spec)
    return found[1] if found else "none"


def read(path: Path) -> dict[str, Any]:
    """Of an earlier run; {} when there was none."""
    return dict(json.loads(path.read_text())) if path.exists() else {}


def of(whole: dict[str, Any], variant: str) -> dict[str, Any]:
    """What is known of that runtime and line; "" is the embedded one on a good line."""
    return dict(whole.get("variants", {}).get(variant, {})) if variant else whole


def put(whole: dict[str, Any], variant: str, document: dict[str, Any]) -> dict[str, Any]:
    """The whole with what is known of that variant now."""
    others = dict(whole.get("variants", {}))
    if not variant:
        return {**document, "variants": others} if others else document
    return {**whole, "variants": {**others, variant: document}}


def text(document: dict[str, Any]) -> str:
    """The table for a terminal, and each failure with its cause."""
    lines = [f"{'':20} {'passed':>8} {'failed':>8} {'skipped':>8}"]
    lines += [f"{group:20} " + " ".join(f"{row[s]:>8}" for s in STATES) for group, row in document["table"].items()]
    failed = [(name, entry) for name, entry in document["specs"].items() if entry["state"] == "failed"]
    return "\n".join(lines + [f"FAILED {name}\n       {entry['cause']}" for name, entry in failed])
