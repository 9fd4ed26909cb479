"""Envelopes of SOAP 1.2 with the UsernameToken of WS-Security (OASIS, Username Token Profile 1.1). Pure: nonces and times come in."""

from __future__ import annotations

import base64
import hashlib

from kubeedge.errors import Invalid
from kubeedge.mapper.markup import escape
from kubeedge.mapper.onvif.elements import XmlElement, parse

CONTENT_TYPE = "application/soap+xml; charset=utf-8"
_WSSE = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-"
_NAMES = (
    'xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:tds="http://www.onvif.org/ver10/device/wsdl" '
    'xmlns:trt="http://www.onvif.org/ver10/media/wsdl" xmlns:tptz="http://www.onvif.org/ver20/ptz/wsdl" '
    'xmlns:tt="http://www.onvif.org/ver10/schema" xmlns:tev="http://www.onvif.org/ver10/events/wsdl" '
    'xmlns:wsnt="http://docs.oasis-open.org/wsn/b-2" xmlns:wsa="http://www.w3.org/2005/08/addressing"'
)


class OnvifFault(Invalid):
    """The device has answered with a fault: it is there, and does not do this. `is_of_sender`: it does not know the user."""

    def __init__(self, reason: str, *, is_of_sender: bool = False) -> None:
        super().__init__(f"the device answers: {reason[:300] or 'a fault without a reason'}")
        self.is_of_sender = is_of_sender


def envelope(body: str, header: str = "") -> bytes:
    """A request with this body and header, which are XML, as what `username_token` and `addressing` give."""
    header = f"<s:Header>{header}</s:Header>" if header else ""
    text = f'<?xml version="1.0" encoding="utf-8"?><s:Envelope {_NAMES}>{header}<s:Body>{body}</s:Body></s:Envelope>'
    return text.encode()


def username_token(user: str, password: str, nonce: bytes, created: str) -> str:
    """The header that proves that the sender knows the password. `created`: the device's time, as 2026-01-31T12:00:00Z."""
    digest = base64.b64encode(hashlib.sha1(nonce + f"{created}{password}".encode()).digest()).decode()
    return (
        f'<wsse:Security s:mustUnderstand="1" xmlns:wsse="{_WSSE}wssecurity-secext-1.0.xsd" '
        f'xmlns:wsu="{_WSSE}wssecurity-utility-1.0.xsd"><wsse:UsernameToken>'
        f"<wsse:Username>{escape(user)}</wsse:Username>"
        f'<wsse:Password Type="{_WSSE}username-token-profile-1.0#PasswordDigest">{digest}</wsse:Password>'
        f'<wsse:Nonce EncodingType="{_WSSE}soap-message-security-1.0#Base64Binary">{base64.b64encode(nonce).decode()}'
        f"</wsse:Nonce><wsu:Created>{created}</wsu:Created></wsse:UsernameToken></wsse:Security>"
    )


def addressing(action: str, to: str, parameters: str = "") -> str:
    """The headers of WS-Addressing 1.0. `parameters`: what the endpoint's reference asks for, as XML."""
    return f"<wsa:Action>{action}</wsa:Action><wsa:To>{escape(to)}</wsa:To>{parameters}"


def answer(data: bytes, name: str) -> XmlElement:
    """The element of that name in an answer. Raises OnvifFault for a fault, PeerError for what is no answer, Invalid for another one."""
    root = parse(data)
    body = root.first("Body")
    if root.name != "Envelope" or body is None:
        raise Invalid("the device answers without an envelope of SOAP")
    if (fault := body.first("Fault")) is not None:
        codes = [one.text.rpartition(":")[2].strip() for one in (fault.first("Code") or fault).all("Value")]
        is_of_sender = any(code in ("NotAuthorized", "FailedAuthentication") for code in codes)
        raise OnvifFault(fault.value("Reason", "Text") or fault.value("faultstring"), is_of_sender=is_of_sender)
    if (found := body.first(name)) is None:
        raise Invalid(f"the device answers without a {name}")
    return found
