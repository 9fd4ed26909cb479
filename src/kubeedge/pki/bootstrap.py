"""A machine's side of the bootstrap port: fetch the CA, join, renew. Blocking, standard library only; for commands and helpers, not for the agent.

Trust begins with the token: the CA certificate comes over plain HTTP and must have the hash that the token holds; everything after it is TLS that
trusts this CA alone.

Lives elsewhere: the cloud's side (kubeedge_cloud.bootstrap), making keys and requests (csr.py), what is written where (kubeedge.cli.join, renew.py).
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kubeedge.api.node_registration import NOTHING, NodeRegistration
from kubeedge.errors import Conflict, Invalid, KubeEdgeError, Refused, Unavailable
from kubeedge.pki import tokens

CLOCK_TOLERANCE = 1800.0  # seconds; certificates are backdated by an hour
_MAX_ANSWER = 64 * 1024
_LONGEST = 4  # times the patience with silence, for an answer as a whole
_EXPIRED, _NOT_YET_VALID = 10, 9  # X509_V_ERR_CERT_HAS_EXPIRED, ..._NOT_YET_VALID
_SET_IT = "set it (with NTP, or `date -s`) and try again"


class Client:
    """One cloud at one address. Errors: Unavailable (try again), Refused and Conflict (do not), Invalid (this machine)."""

    def __init__(self, host: str, port: int, *, timeout: float = 15.0, clock: Callable[[], float] = time.time) -> None:
        self._host, self._port = host, port
        self._timeout = timeout  # seconds for one answer
        self._clock = clock
        self._where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def fetch_ca(self, token: tokens.Token) -> bytes:
        """The CA certificate in PEM. Raises Refused when it is not the one that the token names."""
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        try:
            with self._limited(connection):
                connection.request("GET", "/ca.crt")
                response = connection.getresponse()
                pem = response.read(_MAX_ANSWER)
            status, date = response.status, response.getheader("date")
        except (OSError, http.client.HTTPException, ValueError) as exc:
            raise self._unreachable(f"cannot reach the cloud at {self._where}", exc) from exc
        finally:
            connection.close()
        try:
            if status != 200:
                raise ValueError(f"status {status}")
            der = ssl.PEM_cert_to_DER_cert(pem.decode("ascii"))
        except ValueError as exc:
            raise Refused(
                f"{self._where} does not answer like a bootstrap port of a cloud: {exc}. It may be another port, or a network that "
                "answers with a page of its own until somebody signs in there"
            ) from exc
        if tokens.ca_hash(der) != token.ca_hash:
            raise Refused(
                f"the CA certificate of {self._where} is not the one that the token names: the token is of another cloud, "
                "or the connection is intercepted"
            )
        self._check_clock(date)
        return pem

    def join(
        self,
        token: tokens.Token,
        node: str,
        csr_pem: bytes,
        ca_pem: bytes,
        registration: NodeRegistration = NOTHING,
    ) -> dict[str, Any]:
        """The cloud's answer: certificate, number, addresses, endpoints. The same key may ask again when an answer was lost."""
        body = {"node": node, "csr": csr_pem.decode("ascii"), **registration.encode()}
        return self._call("POST", "/v1/join", body, ca_pem, {"authorization": f"Bearer {token}"})

    def board(
        self, join_key: tokens.Token, serial: str, csr_pem: bytes, ca_pem: bytes
    ) -> tuple[tokens.Token, str] | str:
        """The token of the board with that serial number, and its name as a node; the key by which the cloud knows it where it waits for
        approval."""
        body = {"serial": serial, "csr": csr_pem.decode("ascii")}
        answer = self._call("POST", "/v1/board", body, ca_pem, {"authorization": f"Bearer {join_key}"})
        if "token" not in answer:
            return _text(answer, "key")
        return tokens.parse(_text(answer, "token")), _text(answer, "node")

    def nonce(self, ca_pem: bytes) -> str:
        """A number that the cloud has just drawn, for the signature of one renewal."""
        return _text(self._call("GET", "/v1/nonce", None, ca_pem), "nonce")

    def renew(self, certificate: bytes, csr_pem: bytes, nonce: str, signature: str, ca_pem: bytes) -> bytes:
        """The new certificate; `signature` proves the old key."""
        body = {
            "certificate": certificate.decode("ascii"),
            "csr": csr_pem.decode("ascii"),
            "nonce": nonce,
            "signature": signature,
        }
        return _text(self._call("POST", "/v1/renew", body, ca_pem), "certificate").encode()

    def _call(
        self, method: str, target: str, body: Any, ca_pem: bytes, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(cadata=ca_pem.decode("ascii"))
        connection = http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout, context=context)
        data = None if body is None else json.dumps(body).encode()
        try:
            with self._limited(connection):
                connection.request(method, target, data, {"content-type": "application/json", **(headers or {})})
                response = connection.getresponse()
                text = response.read(_MAX_ANSWER)
            status, retry_after = response.status, response.getheader("retry-after") or ""
        except ssl.SSLCertVerificationError as exc:
            raise self._not_trusted(exc) from exc
        except (OSError, http.client.HTTPException, ValueError) as exc:
            raise self._unreachable(f"no answer from {self._where}", exc) from exc
        finally:
            connection.close()
        try:
            answer = json.loads(text)
            if not isinstance(answer, dict):
                raise ValueError("not an object")
        except (ValueError, RecursionError) as exc:
            raise Unavailable(f"{self._where} answered with status {status} and no JSON object") from exc
        if status == 200:
            return answer
        error = _error(status, str(answer.get("error", f"status {status}"))[:1000], retry_after)
        if advice := answer.get("next"):
            error.add_note(str(advice)[:1000])
        raise error

    @contextlib.contextmanager
    def _limited(self, connection: http.client.HTTPConnection) -> Iterator[None]:
        """Not more than so long for an answer as a whole: whoever sends a byte now and then is silent, too. Raises TimeoutError."""
        over = threading.Event()

        def cut() -> None:
            over.set()
            with contextlib.suppress(OSError):
                if (own := connection.sock) is not None:
                    socket.socket.shutdown(own, socket.SHUT_RDWR)  # also of TLS: the other thread closes it

        timer = threading.Timer(_LONGEST * self._timeout, cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        except (OSError, http.client.HTTPException, ValueError) as exc:
            if over.is_set():
                raise TimeoutError(f"it takes more than {_LONGEST * self._timeout:g} s") from exc
            raise
        finally:
            timer.cancel()
        if over.is_set():
            raise TimeoutError(f"it takes more than {_LONGEST * self._timeout:g} s")

    def _unreachable(self, what: str, exc: Exception) -> KubeEdgeError:
        error = Unavailable(f"{what}: {_words(exc)}")
        # the connection is refused, or the name does not exist: waiting would only hide that
        error.permanent = isinstance(exc, ConnectionRefusedError) or (
            isinstance(exc, socket.gaierror) and exc.errno == socket.EAI_NONAME
        )
        return error

    def _not_trusted(self, exc: ssl.SSLCertVerificationError) -> KubeEdgeError:
        if exc.verify_code in (_EXPIRED, _NOT_YET_VALID):
            today = time.strftime("%Y-%m-%d", time.gmtime(self._clock()))
            return Invalid(
                f"the certificate of {self._where} is {'expired' if exc.verify_code == _EXPIRED else 'not valid yet'} "
                f"by the clock of this machine, which says {today}: if that is wrong, {_SET_IT}"
            )
        return Refused(
            f"the certificate of {self._where} is not to be trusted: {exc.verify_message}; use a name or address that "
            f"the cloud advertises, or add {self._host} to `advertise` in its configuration"
        )

    def _check_clock(self, date: str | None) -> None:
        """A machine whose clock is wrong rejects certificates that are valid."""
        try:
            theirs = email.utils.parsedate_to_datetime(date).timestamp() if date else None
        except (ValueError, TypeError, OverflowError):
            return
        if theirs is None or abs(off := self._clock() - theirs) <= CLOCK_TOLERANCE:
            return
        days = abs(off) / 86400
        amount = f"{days:.0f} days" if days >= 2 else f"{abs(off) / 3600:.1f} hours"
        where = "ahead of" if off > 0 else "behind"
        raise Invalid(f"the clock of this machine is off by {amount} ({where} the cloud's): {_SET_IT}")


def _error(status: int, text: str, retry_after: str) -> KubeEdgeError:
    if status == 409:
        return Conflict(text)
    if status == 429 or status >= 500:
        return Unavailable(text, retry_after=float(retry_after) if retry_after.isdecimal() else None)
    return Refused(text)


def _text(answer: dict[str, Any], name: str) -> str:
    value = answer.get(name)
    if not isinstance(value, str) or not value:
        raise Unavailable(f"the cloud's answer has no {name}")
    return value


def _words(exc: Exception) -> str:
    text = getattr(exc, "strerror", None) or str(exc)
    return f"{type(exc).__name__}: {text!r:.80}" if isinstance(exc, http.client.HTTPException) else text or "no answer"
