"""Whether the kernel of this machine has IPv6, may use it, and forwards it."""

from __future__ import annotations

from pathlib import Path

_SETTINGS = Path("/proc/sys/net/ipv6/conf")


def problem(settings: Path = _SETTINGS) -> str:
    """Why there is none; "" where there is. New interfaces begin as `default` says, and `all` is for each of them."""
    for name in ("all", "default"):
        try:
            if (settings / name / "disable_ipv6").read_text().strip() != "0":
                return f"IPv6 is switched off on this machine (net.ipv6.conf.{name}.disable_ipv6)"
        except OSError:
            return "the kernel of this machine has no IPv6"
    return ""


def forward(settings: Path = _SETTINGS) -> None:
    """Let this machine forward packets. Raises OSError.

    A machine that forwards does not listen to router advertisements any more (accept_ra 1, Linux: networking/ip-sysctl), and its own default
    route may come from them: interfaces that listened go on (2).
    """
    if (settings / "all/forwarding").read_text().strip() != "1":
        for accept in settings.glob("*/accept_ra"):
            if accept.read_text().strip() == "1":
                accept.write_text("2")
        (settings / "all/forwarding").write_text("1")
