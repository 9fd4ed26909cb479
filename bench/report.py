"""What a bench prints and keeps: bench/results/NAME.json and a table in which what falls short is marked.

report = Report("demo")
report.add("join", seconds, unit="s", must=10, aim=3)            # one sample; call again for more
report.add("goodput", mbit, unit="Mbit/s", must=90, higher=True)  # more is better
ok = report.finish()                                              # writes, prints; False when a `must` is missed
ok = report.finish(keep=True)                                     # figures of the file that were not measured stay, with their commit and date
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"


@dataclass(slots=True)
class Figure:
    unit: str
    must: float | None
    aim: float | None
    higher: bool  # more is better
    samples: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    def meets(self, bound: float | None) -> bool:
        return bound is None or (self.median >= bound if self.higher else self.median <= bound)


class Report:
    def __init__(self, name: str, directory: Path = RESULTS) -> None:
        self.name = name
        self.directory = directory
        self.figures: dict[str, Figure] = {}
        self.versions: dict[str, str] = {}  # of other projects' programs beside which ours was measured

    def add(
        self,
        key: str,
        sample: float,
        *,
        unit: str,
        must: float | None = None,
        aim: float | None = None,
        higher: bool = False,
    ) -> None:
        self.figures.setdefault(key, Figure(unit, must, aim, higher)).samples.append(sample)

    def as_json(self) -> dict[str, object]:
        return {
            "machine": _machine(),
            "kernel": platform.release(),
            "commit": commit(),
            **({"versions": self.versions} if self.versions else {}),
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "figures": {
                key: {
                    "median": round(f.median, 6),
                    "min": round(min(f.samples), 6),
                    "max": round(max(f.samples), 6),
                    "unit": f.unit,
                    "runs": len(f.samples),
                    "must": f.must,
                    "aim": f.aim,
                }
                for key, f in self.figures.items()
            },
        }

    def table(self) -> str:
        width = max((len(k) for k in self.figures), default=0)
        lines = [f"{'':{width}}  {'median':>10} {'min':>10} {'max':>10} {'must':>8} {'aim':>8}  unit"]
        for key, f in self.figures.items():
            outcome = "MISSED" if not f.meets(f.must) else "" if f.must is None else "aim" if f.meets(f.aim) else "must"
            low, high = min(f.samples), max(f.samples)
            lines.append(
                f"{key:{width}}  {_short(f.median):>10} {_short(low):>10} {_short(high):>10} "
                f"{_short(f.must):>8} {_short(f.aim):>8}  {f.unit}  {outcome}"
            )
        return "\n".join(lines)

    def _kept(self, path: Path) -> dict[str, object]:
        """Figures of another run."""
        if not path.exists():
            return {}
        old = json.loads(path.read_text())
        made = {key: old[key] for key in ("commit", "date")}
        return {key: {**made, **figure} for key, figure in old["figures"].items() if key not in self.figures}

    def finish(self, *, keep: bool = False) -> bool:
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / f"{self.name}.json"
        found = self.as_json()
        if keep:
            figures = found["figures"]
            assert isinstance(figures, dict)
            found["figures"] = {**self._kept(path), **figures}
        path.write_text(json.dumps(found, indent=2) + "\n")
        print(f"\n{self.name}: {_machine()}, kernel {platform.release()}, commit {commit()}")
        for name, version in self.versions.items():
            print(f"  {name}: {version}")
        print(self.table())
        return all(f.meets(f.must) for f in self.figures.values())


def commit() -> str:
    git = ["git", "-C", str(ROOT)]
    done = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    dirty = subprocess.run(
        [*git, "status", "--porcelain", "-uno", "--", ".", ":!bench/results"], capture_output=True, text=True
    ).stdout.strip()
    return (done.stdout.strip() or "unknown") + ("+changes" if dirty else "")


def _machine() -> str:
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} x {model or platform.machine()}, {memory:.0f} GiB"


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
