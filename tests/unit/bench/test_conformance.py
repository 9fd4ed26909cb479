"""What becomes of the reports of upstream's e2e binary."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bench.conformance import causes, gateway, results
from bench.conformance.archives import NAMES
from bench.conformance.nodes import Variant
from bench.conformance.suite import Outcome, outcomes, pattern


def spec(name: str, state: str, message: str = "") -> dict[str, Any]:
    """As ginkgo's JSON report has it."""
    failure = {"Failure": {"Message": message}} if message else {}
    return {
        "ContainerHierarchyTexts": ["[sig-node] Pods"],
        "LeafNodeText": name,
        "State": state,
        "RunTime": 2e9,
        **failure,
    }


def test_states_of_specs() -> None:
    """What ginkgo left out says nothing: it was not asked for, or the run was interrupted before it."""
    reports = [
        spec("a", "passed"), spec("b", "failed", "no"), spec("c", "skipped", "needs a GPU"), spec("d", "skipped"),
        spec("e", "interrupted", "too long"), spec("f", "panicked", "nil"), spec("not asked", "passed"),
    ]  # fmt: skip
    wanted = [f"[sig-node] Pods {name}" for name in "abcdef"]
    found = {o.spec[-1]: (o.state, o.message) for o in outcomes(reports, wanted)}
    assert found == {
        "a": ("passed", ""), "b": ("failed", "no"), "c": ("skipped", "needs a GPU"),
        "e": ("failed", "interrupted: too long"), "f": ("failed", "panicked: nil"),
    }  # fmt: skip


def test_a_pattern_finds_its_specs_and_no_other() -> None:
    specs = ["[sig-node] Pods (a|b) [Conformance]", "x.y {1} ^$ \\d"]
    assert all(re.fullmatch(pattern(specs), text) for text in specs)
    assert not re.fullmatch(pattern(specs), "xzy {1} ^$ \\d")


def test_a_later_run_replaces_what_it_ran_and_keeps_the_rest() -> None:
    first = results.merged(
        {}, [Outcome("[sig-node] a", "failed", "no", 1), Outcome("[sig-storage] b", "passed", "", 1)], commit="1"
    )
    assert first["table"]["all"] == {"passed": 1, "failed": 1, "skipped": 0}
    assert first["specs"]["[sig-node] a"]["cause"] == causes.UNKNOWN
    second = results.merged(json.loads(json.dumps(first)), [Outcome("[sig-node] a", "passed", "", 1)], commit="2")
    assert second["table"] == {
        "all": {"passed": 2, "failed": 0, "skipped": 0},
        "sig-node": {"passed": 1, "failed": 0, "skipped": 0},
        "sig-storage": {"passed": 1, "failed": 0, "skipped": 0},
    }
    assert [entry["commit"] for entry in second["specs"].values()] == ["2", "1"]


def test_each_runtime_and_line_has_results_of_its_own() -> None:
    assert [Variant().name, Variant("cri").name, Variant(line="bad").name, Variant("cri", "bad").name] == [
        "", "cri", "bad-line", "cri-bad-line",
    ]  # fmt: skip
    whole: dict[str, Any] = {}
    for variant, name in (("", "a"), ("cri", "b"), ("bad-line", "c"), ("", "d"), ("cri", "e")):
        found = [Outcome(f"[sig-node] {name}", "passed", "", 1)]
        whole = results.put(whole, variant, results.merged(results.of(whole, variant), found, commit="1"))
    assert {v: list(results.of(whole, v)["specs"]) for v in ("", "cri", "bad-line")} == {
        "": ["[sig-node] a", "[sig-node] d"], "cri": ["[sig-node] b", "[sig-node] e"], "bad-line": ["[sig-node] c"],
    }  # fmt: skip
    assert results.of(whole, "other") == {} and "variants" not in results.of(whole, "cri")


def test_a_failure_is_named_by_the_first_cause_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causes, "CAUSES", (("Pods", "registry.*refused", "no registry"), ("Pods", "", "other")))
    assert causes.cause(Outcome("[sig-node] Pods x", "failed", "registry\nrefused", 1)) == "no registry"
    assert causes.cause(Outcome("[sig-node] Pods x", "failed", "?", 1)) == "other"
    assert causes.cause(Outcome("[sig-node] Jobs x", "failed", "registry refused", 1)) == causes.UNKNOWN


def test_the_file_of_results_names_a_cause_for_each_failure() -> None:
    whole = results.read(Path(results.__file__).parents[1] / "results/conformance.json")
    for document in (whole, *whole.get("variants", {}).values()):
        assert document["table"] == results.table(document["specs"])
        failed = [entry for entry in document["specs"].values() if entry["state"] == "failed"]
        assert all(entry["cause"] != causes.UNKNOWN for entry in failed)


def test_images_have_one_name_once() -> None:
    names = [name for several in NAMES.values() for name in several]
    assert len(names) == len(set(names)) and not any("invalid.registry" in name for name in names)


def test_what_comes_of_gateway_api_s_tests_is_read_from_their_output() -> None:
    """Parts of a test that failed are named; parts of others are not kept."""
    lines = [
        "=== RUN   TestConformance/HTTPRouteWeight",
        "--- FAIL: TestConformance (159.25s)",
        "    --- PASS: TestConformance/HTTPRouteWeight (1.50s)",
        "        --- PASS: TestConformance/HTTPRouteWeight/0_request (1.00s)",
        "    --- FAIL: TestConformance/HTTPRouteCORS (0.69s)",
        "        --- FAIL: TestConformance/HTTPRouteCORS/2_request_to_'/' (30.00s)",
        "    --- SKIP: TestConformance/MeshBasic (0.00s)",
    ]
    assert gateway.outcomes(lines) == {
        "HTTPRouteWeight": {"state": "passed", "seconds": 1.5},
        "HTTPRouteCORS": {"state": "failed", "seconds": 0.69, "parts": ["2_request_to_'/'"]},
        "MeshBasic": {"state": "skipped", "seconds": 0.0},
    }
