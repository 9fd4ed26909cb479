"""A session with an OPC-UA server, and the handlers of its mapper."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
import stat
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kubeedge._fastpath import rsa
from kubeedge.errors import Invalid, KubeEdgeError, PeerError
from kubeedge.kit.tasks import until_one_ends
from kubeedge.mapper.mapper import Mapper
from kubeedge.mapper.opcua import core, messages, security
from kubeedge.mapper.opcua.binary import NodeId
from kubeedge.mapper.opcua.connection import OpcuaConnection
from kubeedge.mapper.opcua.core import OpcuaDevice, OpcuaNode
from kubeedge.mapper.opcua.security import AsymmetricSuite, KeyPair, ServerKey
from kubeedge.mapper.values import MappedDevice, MappedProperty, TypedValue

_SESSION = 60.0  # seconds without a request after which the server ends a session
_AT_ONCE = 256  # nodes in one request
_STATE = NodeId(0, 2259)  # Server_ServerStatus_State, which every server has
_MAX_FILE = 64 * 1024  # bytes of a certificate or a key
_KEEP_ALIVE = 10  # intervals of a subscription after which the server says that it lives
_PUBLISHING = 2  # requests that wait for notifications


class OpcuaClient:
    """A session. `mapped` is the Device, for what the server sends by itself."""

    def __init__(self, mapped: MappedDevice, connection: OpcuaConnection, session: messages.CreatedSession) -> None:
        self.mapped = mapped
        self._connection = connection
        self._token, self._lifetime = session.token, session.timeout
        self._types: dict[OpcuaNode, int] = {}

    @staticmethod
    async def open(mapped: MappedDevice) -> OpcuaClient:
        """Raises Invalid for what a Device lacks and for what the server refuses; OSError, EOFError, PeerError."""
        device = core.device_of(mapped)
        suite = None
        if device.secure:
            own = _pair(mapped, device.certificate, device.private_key)
            server = await _server_key(mapped, device)
            try:
                suite = AsymmetricSuite(own, server)
            except ValueError as exc:
                raise mapped.invalid(str(exc)) from exc
        connection = await OpcuaConnection.open(
            device.host, device.port, device.url, suite, sign_only=device.sign_only, timeout=device.timeout
        )
        try:
            return OpcuaClient(mapped, connection, await _session(mapped, device, connection, suite))
        except BaseException:
            await connection.aclose()
            raise

    async def read(self, props: Sequence[MappedProperty]) -> dict[str, Any]:
        """Property -> value, or the exception that came instead. Raises as `OpcuaConnection.call`, but for Invalid."""
        found: dict[str, Any] = {}
        asked: list[tuple[MappedProperty, OpcuaNode]] = []
        for prop in props:
            try:
                asked.append((prop, core.node_of(prop)))
            except Invalid as exc:
                found[prop.name] = exc
        for at in range(0, len(asked), _AT_ONCE):
            some = asked[at : at + _AT_ONCE]
            body = messages.read([(node.node, messages.VALUE, node.index) for _, node in some])
            try:
                values = messages.values(await self._call(messages.READ, body), len(some))
            except Invalid as exc:
                found |= {prop.name: prop.invalid(str(exc)) for prop, _ in some}
                continue
            for (prop, _), value in zip(some, values, strict=True):
                try:
                    found[prop.name] = core.value_of(prop, value)
                except Invalid as exc:
                    found[prop.name] = exc
        return found

    async def write(self, prop: MappedProperty, value: TypedValue) -> None:
        """Raises Invalid for what the server refuses, and as `OpcuaConnection.call`."""
        node = core.node_of(prop)
        kind = self._types.get(node) or await self._type(prop, node)
        self._types[node] = kind  # no more than the Device has properties
        body = messages.write(node.node, node.index, core.variant_of(prop, node, kind, value))
        (status,) = messages.statuses(await self._call(messages.WRITE, body), 1)
        if messages.is_bad(status):
            raise prop.invalid(f"the server answers {messages.status_name(status)}")

    async def _type(self, prop: MappedProperty, node: OpcuaNode) -> int:
        if node.type and not node.index:
            return node.type
        body = messages.read([(node.node, messages.DATA_TYPE, ""), (node.node, messages.VALUE, node.index)])
        declared, current = messages.values(await self._call(messages.READ, body), 2)
        if not core.takes_index(prop, current):
            raise prop.invalid("the server does not write single items of this node")
        if not (kind := node.type or core.type_of(declared, current)):
            raise prop.invalid(f"the server answers {messages.status_name(declared.status or current.status)}")
        return kind

    async def _call(self, kind: tuple[int, int], body: bytes, timeout: float | None = None) -> Any:
        return await self._connection.call(kind, self._token, body, timeout=timeout)

    async def listen(self, report: Callable[[Mapping[str, Any]], None]) -> None:
        """Reports what the server sends by itself, and keeps the session. Raises as `OpcuaConnection.call`."""
        pushed = [prop for prop in self.mapped.properties.values() if prop.is_pushed]
        nodes: list[tuple[MappedProperty, OpcuaNode]] = []
        for prop in pushed:
            try:
                nodes.append((prop, core.node_of(prop)))
            except Invalid as exc:
                report({prop.name: exc})
        if nodes:  # the server may have less to send than a session has to ask
            return await until_one_ends(self._subscribe(nodes, report), self._keep())
        await self._keep()

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._lifetime / 3)
            with contextlib.suppress(Invalid):  # a refusal is an answer, too
                await self._call(messages.READ, messages.read([(_STATE, messages.VALUE, "")]))

    async def _subscribe(
        self, nodes: Sequence[tuple[MappedProperty, OpcuaNode]], report: Callable[[Mapping[str, Any]], None]
    ) -> None:
        interval = max(0.05, min(prop.collect_cycle for prop, _ in nodes))
        keep_alive = max(1, min(_KEEP_ALIVE, int(self._lifetime / 3 / interval)))
        made = await self._call(messages.CREATE_SUBSCRIPTION, messages.create_subscription(interval, keep_alive))
        subscription, silence = messages.created_subscription(made)
        for at in range(0, len(nodes), _AT_ONCE):
            await self._watch(subscription, nodes[at : at + _AT_ONCE], at, report)
        limit = 2 * silence + self._connection.timeout
        acknowledged: list[tuple[int, int]] = []

        async def publish() -> None:
            while True:
                some, acknowledged[:] = list(acknowledged), []
                got = messages.notification(await self._call(messages.PUBLISH, messages.publish(some), limit))
                if got.sequence:
                    acknowledged.append((got.subscription, got.sequence))
                if got.ended:
                    raise ConnectionResetError(f"the server ends the subscription: {messages.status_name(got.ended)}")
                values: dict[str, Any] = {}
                for handle, value in got.values:
                    if handle < len(nodes):
                        prop = nodes[handle][0]
                        try:
                            values[prop.name] = core.value_of(prop, value)
                        except Invalid as exc:
                            values[prop.name] = exc
                if values:
                    report(values)

        tasks = [asyncio.create_task(publish()) for _ in range(_PUBLISHING)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                try:
                    task.result()
                except Invalid as exc:  # without publishing there is no subscription
                    raise PeerError(str(exc)) from exc
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(
        self,
        subscription: int,
        nodes: Sequence[tuple[MappedProperty, OpcuaNode]],
        first: int,
        report: Callable[[Mapping[str, Any]], None],
    ) -> None:
        asked = [(node.node, node.index, prop.collect_cycle) for prop, node in nodes]
        answer = await self._call(messages.CREATE_ITEMS, messages.create_items(subscription, asked, first))
        for (prop, _), status in zip(nodes, messages.created_items(answer, len(nodes)), strict=True):
            if messages.is_bad(status):
                report({prop.name: Invalid(f"the server answers {messages.status_name(status)}")})

    async def aclose(self) -> None:
        """Ends the session, as far as the server still listens."""
        with contextlib.suppress(OSError, EOFError, KubeEdgeError):
            await self._call(messages.CLOSE_SESSION, b"\1", 1.0)
        await self._connection.aclose()


async def _session(
    mapped: MappedDevice, device: OpcuaDevice, connection: OpcuaConnection, suite: AsymmetricSuite | None
) -> messages.CreatedSession:
    nonce, own = os.urandom(security.NONCE), None if suite is None else suite.own.certificate
    application = (rsa.uri(own) if own else "") or "urn:kubeedge:mapper"
    body = messages.create_session(application, device.url, nonce, own, _SESSION)
    session = messages.created_session(await connection.call(messages.CREATE_SESSION, messages.NULL, body))
    signed = messages.signature(None, None)
    if suite is not None:
        if session.certificate != suite.server.certificate:
            raise mapped.invalid("the server shows another certificate in its session than in its channel")
        if not suite.server.is_by(session.signature, suite.own.certificate + nonce):
            raise mapped.invalid("the server cannot prove that its certificate is its own")
        proof = rsa.sign(suite.own.private, session.certificate + session.nonce)
        signed = messages.signature(security.SIGN_ALGORITHM, proof)
    mode = 1 if suite is None else security.SIGN if device.sign_only else security.SIGN_AND_ENCRYPT
    policy = security.NONE if suite is None else security.BASIC256SHA256
    endpoint = core.chosen(list(session.endpoints), policy, mode)
    identity, proof_of_user = _identity(mapped, device, session, endpoint, suite)
    body = messages.activate_session(signed, identity, proof_of_user)
    await connection.call(messages.ACTIVATE_SESSION, session.token, body)
    return session


def _identity(
    mapped: MappedDevice,
    device: OpcuaDevice,
    session: messages.CreatedSession,
    endpoint: messages.OpcuaEndpoint,
    suite: AsymmetricSuite | None,
) -> tuple[bytes, bytes]:
    """(identity token, signature of the user)."""
    unsigned = messages.signature(None, None)
    kind = (
        messages.USER_NAME if device.user else messages.CERTIFICATE if device.user_certificate else messages.ANONYMOUS
    )
    policies = {one.policy_uri or endpoint.policy_uri: one for one in reversed(endpoint.tokens) if one.kind == kind}
    policy = policies.get(security.BASIC256SHA256)
    is_plain = policy is None and suite is not None and not device.sign_only
    if is_plain:  # what goes over an encrypted channel need not be encrypted once more
        policy = policies.get(security.NONE)
    if kind == messages.ANONYMOUS:
        if not policies:
            raise mapped.invalid("the server lets nobody in without a user: userName and password are required")
        return messages.anonymous(next(iter(policies.values())).id), unsigned
    if policy is None:
        raise mapped.invalid("the server takes this kind of user without encryption or with another policy only")
    server = suite.server if suite is not None else _trusted(mapped, device, session.certificate)
    if kind == messages.CERTIFICATE:
        user = _pair(mapped, device.user_certificate, device.user_key)
        proof = rsa.sign(user.private, session.certificate + session.nonce)
        signed = messages.signature(security.SIGN_ALGORITHM, proof)
        return messages.user_certificate(policy.id, user.certificate), signed
    if is_plain:
        return messages.user_name(policy.id, device.user, device.password.encode(), None), unsigned
    secret = device.password.encode() + session.nonce
    sealed = server.encrypted(struct.pack("<I", len(secret)) + secret)
    return messages.user_name(policy.id, device.user, sealed, security.ENCRYPT_ALGORITHM), unsigned


async def _server_key(mapped: MappedDevice, device: OpcuaDevice) -> ServerKey:
    """The key of the server that the Device means: it is asked without security, and then held to it."""
    connection = await OpcuaConnection.open(
        device.host, device.port, device.url, None, sign_only=False, timeout=device.timeout
    )
    try:
        body = messages.get_endpoints(device.url)
        found = messages.endpoints(await connection.call(messages.GET_ENDPOINTS, messages.NULL, body))
    finally:
        await connection.aclose()
    mode = security.SIGN if device.sign_only else security.SIGN_AND_ENCRYPT
    return _trusted(mapped, device, core.chosen(found, security.BASIC256SHA256, mode).certificate)


def _trusted(mapped: MappedDevice, device: OpcuaDevice, certificate: bytes) -> ServerKey:
    """Raises Invalid for a certificate that is not the one of the Device."""
    wanted = device.server_fingerprint
    if device.server_certificate:
        wanted = security.fingerprint(_certificate(mapped, device.server_certificate))
    have = security.fingerprint(certificate)
    if not wanted:
        raise mapped.invalid(f"serverFingerprint or serverCertificate is required; the server's certificate has {have}")
    if have != wanted:
        raise mapped.invalid(f"the server has another certificate than the Device says: {have}")
    try:
        return ServerKey(certificate, rsa.public_key(certificate))
    except ValueError as exc:
        raise mapped.invalid("the server has no certificate") from exc


def _pair(mapped: MappedDevice, certificate: str, key: str) -> KeyPair:
    """Raises Invalid without a word of what is in the files."""
    private = _der(_file(mapped, key))
    try:
        rsa.private_size(private)
    except ValueError as exc:
        raise mapped.invalid(f"{key} has no RSA key without a password") from exc
    return KeyPair(_certificate(mapped, certificate), private)


def _certificate(mapped: MappedDevice, path: str) -> bytes:
    found = _der(_file(mapped, path))
    try:
        rsa.public_key(found)
    except ValueError as exc:
        raise mapped.invalid(f"{path} has no certificate") from exc
    return found


def _file(mapped: MappedDevice, path: str) -> bytes:
    """Small files, read in the loop: threads would cost the mapper half a megabyte."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # no pipe holds up the other devices
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise mapped.invalid(f"{path} is no file")
            return os.read(file, _MAX_FILE)
        finally:
            os.close(file)
    except OSError as exc:
        raise mapped.invalid(f"{path} cannot be read: {exc.strerror}") from exc


def _der(data: bytes) -> bytes:
    """The first block of PEM, or what is DER already."""
    match = re.search(rb"-----BEGIN [A-Z ]+-----([A-Za-z0-9+/=\s]+)-----END", data)
    try:
        return base64.b64decode(b"".join(match[1].split())) if match else data
    except ValueError:
        return b""  # who asks says that there is neither a key nor a certificate


def opcua_mapper() -> Mapper:
    """The mapper of OPC-UA; what a Device says is in core.py."""
    mapper = Mapper("opcua", timeout=120.0)

    @mapper.connect
    async def connect(device: MappedDevice) -> OpcuaClient:
        return await OpcuaClient.open(device)

    @mapper.read_many
    async def read_many(client: OpcuaClient, props: Sequence[MappedProperty]) -> dict[str, Any]:
        return await client.read(props)

    @mapper.write
    async def write(client: OpcuaClient, prop: MappedProperty, value: TypedValue) -> None:
        await client.write(prop, value)

    @mapper.listen
    async def listen(client: OpcuaClient) -> None:
        await client.listen(mapper.reporter(client.mapped))

    return mapper
