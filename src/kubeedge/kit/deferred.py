"""Modules of Python and of others that something imports and nothing uses yet: they are loaded when one of their names is asked for first (ADR 54).

What stands in for one answers the few questions that are asked while the agent is being loaded; any other loads the module, which takes its place
from then on. Whoever holds the stand-in goes on with it: it has all names of the module.
"""

from __future__ import annotations

import _locale
import functools
import importlib
import os
import sys
import types
from collections.abc import Callable
from types import ModuleType
from typing import Any

_COROUTINE = 0x80  # inspect.CO_COROUTINE


class DeferredModule(ModuleType):
    """In sys.modules instead of the module `name`. `answers`: names that it has without loading it."""

    def __init__(self, name: str, **answers: object) -> None:
        super().__init__(name)
        self.__dict__.update(answers)

    def __getattr__(self, name: str) -> Any:
        """Raises AttributeError, and ImportError when there is no such module."""
        if name.startswith("__"):  # of an import that looks at what it has found, which is no use of the module
            raise AttributeError(name)
        try:
            return getattr(self.load(), name)
        except AttributeError:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}") from None

    def load(self) -> ModuleType:
        """The module itself, whose names are this one's from now on. Raises ImportError."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        module = importlib.import_module(self.__name__)  # one thread of several loads it, and the others wait
        self.__dict__.update({key: value for key, value in vars(module).items() if not key.startswith("__")})
        return module


def defer(name: str, **answers: object) -> None:
    """Unless it is loaded. A module inside a package is its attribute, too."""
    if name in sys.modules:
        return
    stand_in = sys.modules[name] = DeferredModule(name, **answers)
    package, _, last = name.rpartition(".")
    if package:
        setattr(importlib.import_module(package), last, stand_in)


def standard_library() -> None:
    """What asyncio, subprocess, uuid, pathlib, shutil and dataclasses import for cases that an agent seldom meets, and HTTP, which it seldom speaks:
    40 kB to 1 MB each."""
    defer("inspect", **_inspect())  # and with it ast and dis
    defer("locale", getencoding=_locale.getencoding)  # subprocess: text instead of bytes
    defer("platform", system=lambda: os.uname().sysname)  # uuid
    defer("textwrap")  # traceback of Python 3.11
    defer("tokenize")  # linecache of Python 3.11
    defer("bz2")  # shutil: archives
    defer("lzma")
    defer("urllib.parse", quote_from_bytes=_later("urllib.parse", "quote_from_bytes"))  # pathlib of Python 3.11
    defer("h11")
    if sys.version_info < (3, 12) and "datetime" not in sys.modules:
        # the same classes without the same again in Python, which are only there to be thrown away; newer ones do so by themselves
        sys.modules["datetime"] = importlib.import_module("_datetime")


def _later(module: str, name: str) -> Callable[..., Any]:
    """That function, which loads its module when it is called."""

    def call(*arguments: object, **named: object) -> Any:
        there = sys.modules[module]
        return getattr(there.load() if isinstance(there, DeferredModule) else there, name)(*arguments, **named)

    return call


def _inspect() -> dict[str, object]:
    answers: dict[str, object] = {
        "iscoroutinefunction": _is_coroutine_function,  # asyncio: each signal handler
        "isfunction": _is_function,  # asyncio: what it says of a task
        "unwrap": _unwrapped,
    }
    if sys.flags.optimize > 1:  # dataclasses of others: a docstring for each that has none, where none has one
        signature = _later("inspect", "signature")
        answers["signature"] = lambda of, **named: "" if isinstance(of, type) else signature(of, **named)
    if sys.version_info >= (3, 13):  # dataclasses of others
        annotations = _later("inspect", "get_annotations")
        answers["get_annotations"] = lambda of, **named: (
            {**of.__dict__.get("__annotations__", {})}
            if isinstance(of, type) and not named
            else annotations(of, **named)
        )
    return answers


def _is_function(it: object) -> bool:
    return isinstance(it, types.FunctionType)


def _unwrapped(function: Any, *, stop: Callable[[Any], bool] | None = None) -> Any:
    while hasattr(function, "__wrapped__") and not (stop and stop(function)):
        function = function.__wrapped__
    return function


def _is_coroutine_function(function: Any) -> bool:
    while isinstance(function, types.MethodType | functools.partial):
        function = function.__func__ if isinstance(function, types.MethodType) else function.func
    return _is_function(function) and bool(function.__code__.co_flags & _COROUTINE)
