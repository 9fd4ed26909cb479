"""Why a spec fails on our nodes: by its name and what it said. What nobody has looked into is not named."""

from __future__ import annotations

import re

from bench.conformance.suite import Outcome

#: (name of the spec, its message, cause): the first whose both parts are found
CAUSES: tuple[tuple[str, str, str], ...] = (
    (r"SCTPConnectivity", "", "the machine: its kernel has no SCTP"),
    (r"PrivilegedPod", "Operation not supported", "the machine: its kernel has no network device of type dummy"),
    (
        r"read only busybox container",
        "line 1: /file",
        "the image: its shell is Debian's bash, which words the error otherwise (archives.py says why)",
    ),
    (
        r"logs from the container over websockets",
        "",
        "the suite, on a busy machine: it reads the log as soon as the pod is Running, tens of milliseconds before a slow shell has written (2 of "
        "12 times here, behind containerd 3 of 3), and its second attempt asks without TLS, since the first has changed the URL",
    ),
    (
        r"HostPort validates",
        "Failed to connect",
        "ours, by design: the first InternalIP of a node is the cloud's, where the API server finds its kubelet, and the suite sends from that "
        "address on the node (curl --interface); host ports themselves work",
    ),
    (
        r"proxy logs on node with explicit kubelet port",
        "",
        "ours, by design: the kubelet of each node has a port of its own at the cloud, which the Node names; the suite takes 10250",
    ),
    (r"proxy logs on node using", "", "ours: a node does not serve its directory of logs (/logs/)"),
    (
        r"should not run with an explicit root user ID",
        "not to be nil",
        "ours, mended since: behind CRI, runAsNonRoot did not refuse runAsUser 0 (tests/unit/appengine/test_cri.py)",
    ),
    (
        r"externalTrafficPolicy=Local for type=NodePort",
        "timed out",
        "ours, by design: the first InternalIP of a node is the cloud's, where the API server finds its kubelet, and the suite asks there for the "
        "node port; no endpoint is on that machine",
    ),
    (
        r"InitContainer",
        r"kube-root-ca\.crt.* not found",
        "ours, seldom: a pod can be on its node a moment before a ConfigMap of its volumes, and its containers then wait with "
        "CreateContainerConfigError, where a kubelet says PodInitializing",
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
