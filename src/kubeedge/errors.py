"""The error tree. The class says what a caller can do next.

KubeEdgeError
├── Misuse            our own caller broke a rule: a bug in this process, fix it
├── Invalid           the user's input breaks a rule: carries the path of the bad value and what would be right
├── Refused           the other side may not do this (identity, token, tenant): do not retry
├── PeerError         the other end broke the protocol: close the conversation, with close_code as the answer
├── Unavailable       it may work later: retry, after retry_after seconds when we know
│   ├── LinkNotUp         no KubeBus link
│   └── ChannelDetached   no hub channel
├── NotFound          the named thing does not exist
├── Conflict          another client wrote first: read again; carries the current revision
└── Gone              the history asked for has been compacted: fall back to a snapshot
"""

from __future__ import annotations

from typing import TypeVar


class KubeEdgeError(Exception):
    """Base of every error that this project raises on purpose."""


class Misuse(KubeEdgeError):
    """Our own caller broke a rule."""


class Invalid(KubeEdgeError):
    """`path` is where the bad value sits ("modules.hub.heartbeat"), "" when the whole input is meant."""

    def __init__(self, message: str, *, path: str = "") -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path


class Refused(KubeEdgeError):
    """The other side may not do this."""


class PeerError(KubeEdgeError):
    """`close_code` is what a driver answers with: a WebSocket close code (RFC 6455 section 7.4)."""

    def __init__(self, message: str, *, close_code: int = 1002) -> None:
        super().__init__(message)
        self.close_code = close_code


class Unavailable(KubeEdgeError):
    """`where` is the path of the file in question: it is in the text, and left out of what is sent to peers (see outward)."""

    def __init__(self, message: str, *, retry_after: float | None = None, where: str = "") -> None:
        super().__init__(f"{where}: {message}" if where else message)
        self.retry_after = retry_after  # seconds
        self.message = message
        self.permanent = False  # waiting does not help: the address is wrong, or nothing runs there


class LinkNotUp(Unavailable):
    """No link of KubeBus is up."""


class ChannelDetached(Unavailable):
    """The hub has no channel."""


class NotFound(KubeEdgeError):
    """The named thing does not exist."""


class Conflict(KubeEdgeError):
    """Another writer was first; `revision` is the current one, 0 when it is not known."""

    def __init__(self, message: str, *, revision: int = 0) -> None:
        super().__init__(message)
        self.revision = revision


class Gone(KubeEdgeError):
    """`compacted` is the revision up to which history is gone."""

    def __init__(self, message: str, *, compacted: int = 0) -> None:
        super().__init__(message)
        self.compacted = compacted


E = TypeVar("E", bound=KubeEdgeError)


def with_next(error: E, advice: str) -> E:
    """The same error with what to do about it, which the `kubeedge` command prints as "next: ..."."""
    error.add_note(advice)
    return error


def suspect_clock(reason: str) -> str:
    """Why a certificate was refused, as a message: with the likely cause on a machine that has no clock chip."""
    if "certificate has expired" in reason or "certificate is not yet valid" in reason:  # OpenSSL's X509_V_ERR_CERT_*
        return f"{reason}; is the clock of this machine right?"
    return reason


def outward(exc: BaseException) -> str:
    """What the other end of a connection may read of an error: all but where on this machine it happened."""
    return exc.message if isinstance(exc, Unavailable) else str(exc)
