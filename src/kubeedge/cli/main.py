"""The program `kubeedge`: parses its command line, runs the command, and turns errors into messages and exit statuses."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from kubeedge.cli.parser import parser


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 it failed (and why), 2 wrong usage."""
    name = "keadm" if sys.argv[0].rpartition("/")[2] == "keadm" else "kubeedge"
    options = parser(name).parse_args(argv)
    module = importlib.import_module(f"kubeedge.cli.{options.module}")
    try:
        status: int = module.run(options)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _close_stdout()
        return 1
    except Exception as exc:
        from kubeedge.errors import KubeEdgeError

        if not isinstance(exc, KubeEdgeError | OSError):
            raise
        print(f"{name} {options.command}: {_line(exc)}", file=sys.stderr)
        for advice in getattr(exc, "__notes__", ()):
            print(f"next: {_line(advice)}", file=sys.stderr)
        return int(getattr(exc, "exit_status", 1))


def _line(text: object) -> str:
    """One line, and nothing that a terminal would obey: parts of it may come from the other side."""
    return "".join(c if c.isprintable() else " " for c in str(text).strip())


def _close_stdout() -> None:
    """The reader is gone; the interpreter must not try to flush once more."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
