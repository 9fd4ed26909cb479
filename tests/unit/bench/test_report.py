"""Where a bench keeps its figures."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from bench.report import ROOT, Report


def test_figures_go_to_the_directory_that_was_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = Report("demo", tmp_path / "results")
    report.add("join", 2.0, unit="s", must=3.0)
    assert report.finish() and "join" in capsys.readouterr().out
    written = json.loads((tmp_path / "results/demo.json").read_text())
    assert written["figures"]["join"]["median"] == 2.0


def test_a_part_of_a_bench_keeps_the_figures_of_the_others(tmp_path: Path) -> None:
    for key, keep in (("join", False), ("apply", True), ("join", True)):
        report = Report("demo", tmp_path)
        report.add(key, 2.0, unit="s")
        report.finish(keep=keep)
    figures = json.loads((tmp_path / "demo.json").read_text())["figures"]
    assert figures.keys() == {"join", "apply"}
    assert "commit" not in figures["join"] and {"commit", "date"} <= figures["apply"].keys()


def test_make_demo_changes_no_file_that_is_under_version_control() -> None:
    recipe = subprocess.run(
        ["make", "-n", "--no-print-directory", "demo"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    command = next(line for line in recipe.splitlines() if "bench.demo" in line).split()
    directory = command[command.index("--results") + 1]
    assert subprocess.run(["git", "check-ignore", "-q", f"{directory}/demo.json"], cwd=ROOT).returncode == 0
