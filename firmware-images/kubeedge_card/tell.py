"""Writes to the status file of the boot partition why an update was refused: whoever stands before the machine need not have a login, or the cloud's condition.

Run by `kubeedge image-update` (kubeedge.imageupdate.driver.TELL). The same reason again writes nothing: a wish that cannot be fulfilled is tried each hour.
"""

from __future__ import annotations

import sys

from kubeedge_card import boot_partition, status

_MAX = 64 * 1024  # bytes of the file


def main() -> int:
    """The exit status."""
    try:
        text = boot_partition.read(status.NAME, _MAX) or ""
        boot_partition.write(status.NAME, status.with_update(text, sys.argv[1]))
    except (OSError, ValueError) as exc:
        print(f"card: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
