"""What control groups are limited to, and the files that say so in cgroup v1 and v2. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from kubeedge.kit.dataclasses import dataclass

NO_LIMIT = -1
CPU_PERIOD = 100_000  # microseconds
LEAST_SHARES, _MOST_SHARES = 2, 262144  # what v1 takes


@dataclass(frozen=True, slots=True)
class GroupLimits:
    """Of one group and all below it. `shares` of v1, `quota` in microseconds of each CPU_PERIOD, `memory` in bytes, `pids` processes and threads.
    0 leaves what there is, NO_LIMIT takes a limit away."""

    shares: int = 0
    quota: int = 0
    memory: int = 0
    pids: int = 0

    def controllers(self) -> Iterator[str]:
        """Those that have something to limit. Processes come first: without a bound of them nothing else is safe."""
        asked = {"pids": self.pids, "memory": self.memory, "cpu": self.shares or self.quota}
        yield from (name for name, value in asked.items() if value)

    def files(self, controller: str, *, is_v2: bool) -> Iterator[tuple[str, str]]:
        """The names and contents of its files."""
        no_limit = "max" if is_v2 else "-1"
        if controller == "pids":
            yield "pids.max", "max" if self.pids < 0 else str(self.pids)
        if controller == "memory":
            yield (
                "memory.max" if is_v2 else "memory.limit_in_bytes",
                no_limit if self.memory < 0 else str(self.memory),
            )
        if controller == "cpu" and self.shares:
            yield ("cpu.weight", str(weight_of(self.shares))) if is_v2 else ("cpu.shares", str(self.shares))
        if controller == "cpu" and self.quota:
            quota = no_limit if self.quota < 0 else str(self.quota)
            if is_v2:
                yield "cpu.max", f"{quota} {CPU_PERIOD}"
            else:
                yield "cpu.cfs_period_us", str(CPU_PERIOD)
                yield "cpu.cfs_quota_us", quota


@dataclass(frozen=True, slots=True)
class PodBounds:
    """What pods may have of this machine. 0 of processor and memory: no limit."""

    pod_pids: int = 1024  # processes and threads of one pod
    all_pids: int = 0  # of all pods together; 0: three quarters of what the machine can have
    cpu: int = 0  # millicores of all pods together: their share when others want it, too
    memory: int = 0  # bytes of all pods together


def swap_limit(swap: int | None) -> dict[str, dict[str, str]]:
    """Of an OCI runtime's or CRI's resources, for cgroup v2: in bytes; nothing for None. Zero is a limit too."""
    return {} if swap is None else {"unified": {"memory.swap.max": str(swap)}}


def shares_of(millicores: int) -> int:
    """As many as the kubelet gives for a request."""
    return max(LEAST_SHARES, min(_MOST_SHARES, millicores * 1024 // 1000))


def weight_of(shares: int) -> int:
    """The weight of v2 that stands for shares of v1: 1 to 10000 for 2 to 262144, as with the kubelet and the OCI runtimes."""
    return 1 + (max(LEAST_SHARES, min(_MOST_SHARES, shares)) - 2) * 9999 // 262142


def shares_of_weight(weight: int) -> int:
    """The inverse of weight_of(), as near as it can be."""
    return 2 + (weight - 1) * 262142 // 9999
