"""ConversionReview (apiextensions.k8s.io/v1): objects of devices.kubeedge.io in another version. Pure.

Lives elsewhere: what a version says in the other one (kubeedge.api.devices_v1alpha2), and that nothing is lost (kubeedge.api.conversions).
"""

from __future__ import annotations

from typing import Any

from kubeedge.api.conversions import Version
from kubeedge.api.devices_v1alpha2 import DEVICE_CONVERSION, DEVICEMODEL_CONVERSION
from kubeedge.api.names import Object
from kubeedge.errors import Invalid

_VERSIONS: tuple[Version, ...] = (DEVICE_CONVERSION, DEVICEMODEL_CONVERSION)


def answer(review: Any) -> Object:
    """The review with its response. Raises Invalid for what is no review; an object that cannot be converted is said in the response."""
    request = review.get("request") if isinstance(review, dict) else None
    if not isinstance(request, dict) or review.get("kind") != "ConversionReview":
        raise Invalid("it is no ConversionReview with a request")
    uid, wanted, objects = (request.get(key) for key in ("uid", "desiredAPIVersion", "objects"))
    if not isinstance(uid, str) or not isinstance(wanted, str) or not isinstance(objects, list):
        raise Invalid("a ConversionReview has uid, desiredAPIVersion and objects")
    response: Object = {"uid": uid[:128]}
    try:
        response["convertedObjects"] = [_converted(obj, wanted) for obj in objects]
        response["result"] = {"status": "Success"}
    except Invalid as exc:
        response = {"uid": uid[:128], "result": {"status": "Failure", "message": str(exc)[:1000]}}
    return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response": response}


def _converted(obj: Any, wanted: str) -> Object:
    if not isinstance(obj, dict):
        raise Invalid("an object is no JSON object")
    kind, has = obj.get("kind"), obj.get("apiVersion")
    for version in _VERSIONS:
        older, stored = version.resource.api_version, version.stored.api_version
        if kind == version.resource.kind and {has, wanted} <= {older, stored}:
            if has == wanted:
                return obj
            return version.to_stored(obj) if has == older else version.from_stored(obj)
    raise Invalid(f"{str(kind)[:64]} of {str(has)[:64]} is not converted to {wanted[:64]}")
