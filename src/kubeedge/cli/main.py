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
        from kubeedge.cli.errors import tell

        return tell(exc, f"{name} {options.command}")


def _close_stdout() -> None:
    """The reader is gone; the interpreter must not try to flush once more."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
