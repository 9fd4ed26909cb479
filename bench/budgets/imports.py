"""`python imports.py MODULE...`: what each module costs that is loaded with these, as JSON lines, the most expensive first; then their sum.

Bytes are of Python's own objects (tracemalloc), code included; those of a module that it loads are that one's. `-X importtime` knows times alone.
A program of its own: an interpreter loads a module once.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import json
import sys
import time
import tracemalloc
from types import ModuleType
from typing import Any


class Costs:
    """What has been loaded so far. Modules are nested: what is inside another one is taken off that one."""

    def __init__(self) -> None:
        self.of: dict[str, tuple[float, int]] = {}  # seconds, bytes
        self._inside = [(0.0, 0)]

    def measure(self, loader: Any) -> None:
        """From here on, whatever this kind of loader loads."""
        execute = loader.exec_module

        def exec_module(own: object, module: ModuleType) -> None:
            self._inside.append((0.0, 0))
            began, size = time.perf_counter(), tracemalloc.get_traced_memory()[0]
            try:
                execute(own, module)
            finally:
                took, grew = time.perf_counter() - began, tracemalloc.get_traced_memory()[0] - size
                nested = self._inside.pop()
                before = self._inside[-1]
                self._inside[-1] = (before[0] + took, before[1] + grew)
                self.of[module.__name__] = (took - nested[0], grew - nested[1])

        loader.exec_module = exec_module


def main(names: list[str]) -> None:
    """Prints one object a line."""
    costs = Costs()
    costs.measure(importlib.machinery.SourceFileLoader)
    costs.measure(importlib.machinery.ExtensionFileLoader)
    tracemalloc.start()
    from kubeedge.agent import footprint

    footprint.begin()  # as the agent itself
    for name in names:
        importlib.import_module(name)
    for name, (seconds, size) in sorted(costs.of.items(), key=lambda item: -item[1][1]):
        print(json.dumps({"module": name, "ms": round(seconds * 1000, 2), "kB": round(size / 1024, 1)}))
    print(json.dumps({"modules": len(costs.of), "kB": sum(size for _, size in costs.of.values()) / 1024}))


if __name__ == "__main__":
    main(sys.argv[1:])
