"""Why a spec fails on our nodes: by its name and what it said. What nobody has looked into is not named."""

from __future__ import annotations

import re

from bench.conformance.suite import Outcome

#: (name of the spec, its message, cause): the first whose both parts are found
CAUSES: tuple[tuple[str, str, str], ...] = (
    (r"https hook", "", "ours: probes and hooks do not speak HTTPS; the event UnsupportedFields says so"),
    (r"readiness gates", "", "ours: readinessGates of a pod are not looked at"),
    (r"hostnameOverride", "", "ours: hostnameOverride of a pod is not looked at"),
    (
        r"non-local redirect",
        "",
        "ours: a probe that is redirected to another host succeeds, but there is no event ProbeWarning",
    ),
    (
        r"PodOSRejection",
        "",
        "ours: a pod for another system is run, with an event UnsupportedFields, and the API refuses its status; a kubelet makes it Failed",
    ),
    (
        r"Sysctls.*unsafe",
        "",
        "ours, by decision: a pod that this node cannot run waits as Pending, UnsupportedPod; a kubelet makes it Failed",
    ),
    (r"in progress of terminating", "", "ours: readiness is not probed any more while a pod ends"),
    (r"PrivilegedPod", "Operation not supported", "the machine: its kernel has no network device of type dummy"),
    (
        r"read only busybox container",
        "line 1: /file",
        "the image: its shell is Debian's bash, which words the error otherwise (archives.py says why)",
    ),
    (
        r"logs from the container over websockets",
        "",
        "open: why the first answer is not the line that is in the log; the suite asks again without TLS, and hides it",
    ),
    (r"a container with a new image", "", "no registry: what is not preloaded cannot be pulled"),
)

UNKNOWN = "not looked into"


def cause(outcome: Outcome) -> str:
    """In words; UNKNOWN."""
    for name, message, words in CAUSES:
        if re.search(name, outcome.spec) and re.search(message, outcome.message, re.DOTALL):
            return words
    return UNKNOWN
