"""The verbs: one function each, from a Call to a Response. The HTTP method and path have chosen it (server.py)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from kubeedge.api import managed_fields, meta, patch, strategic, yaml_body
from kubeedge.api.json_bounds import JsonBounds
from kubeedge.api.names import Object
from kubeedge.api.resources import PODS
from kubeedge.api.status import (
    AlreadyExists,
    BadRequest,
    FieldError,
    InvalidObject,
    MethodNotAllowed,
    ObjectNotFound,
    StatusError,
    UnsupportedMediaType,
    success,
)
from kubeedge.apiserver import content, core, selection, tables, versions
from kubeedge.apiserver.call import Call
from kubeedge.apiserver.content import Accept
from kubeedge.apiserver.reading import Page
from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import replace
from kubeedge.kit.http1 import Response

_TRANSFORMS = ("Table", "PartialObjectMetadata", "PartialObjectMetadataList")
_PIECE = 1024 * 1024  # bytes of objects that are decoded at once for a list
_LIMITED = (
    4 * 1024 * 1024
)  # bytes after which a page of a list ends, whatever its `limit`: clients go on until there is no `continue`
_STRATEGIC = "application/strategic-merge-patch+json"  # not for custom resources: their lists have no merge keys
_OPERATIONS = JsonBounds(values=5 * patch.MAX_OPERATIONS)  # an operation is an object with three values, or more


def answer(call: Call, status: int, obj: Object, *, media: str = content.JSON) -> Response:
    """A response with the object as it is; `media` is the content type."""
    return _answered(call, status, meta.encode(obj), media=media)


def _answered(call: Call, status: int, body: bytes, *, media: str = content.JSON) -> Response:
    headers = [("content-type", media), ("cache-control", "no-cache, private")]
    headers += [content.warning_header(text) for text in call.warnings[:16]]
    return Response(status, headers, body)


async def written(call: Call, status: int, accept: Accept, obj: Object) -> Response:
    """The answer to a write; as large as what came, so it is encoded where that was decoded."""
    new = obj if call.address.subresource == "scale" else shown(call, accept, obj)
    return await call.apart(lambda: answer(call, status, new))


def accept_of(call: Call) -> Accept:
    """What the Accept header asks for (plain, Table or PartialObjectMetadata). Raises NotAcceptable."""
    return content.negotiate(call.request.header("accept"), transforms=_TRANSFORMS)


def include_of(call: Call) -> str:
    """includeObject of a Table: None, Metadata (the default) or Object. Raises BadRequest for others."""
    include = call.one("includeObject") or "Metadata"
    if include not in ("None", "Metadata", "Object"):
        raise BadRequest(f"includeObject {include[:32]!r} is not None, Metadata or Object")
    return include


def shown(call: Call, accept: Accept, obj: Object, *, headers: bool = True) -> Object:
    """A stored object in the form and the version that the client asked for."""
    match accept.as_kind:
        case "Table":
            return tables.table(
                call.address.row,
                [obj],
                version=accept.version,
                include=include_of(call),
                now=time.time(),
                list_metadata={"resourceVersion": meta.metadata(obj).get("resourceVersion", "")},
                headers=headers,
            )
        case "":
            return versions.shown(call.address.row, obj)
    return tables.partial(versions.shown(call.address.row, obj), accept.version)


async def get(call: Call) -> Response:
    """GET of one object, or of its scale subresource (autoscaling/v1 Scale)."""
    accept = accept_of(call)
    at = call.address
    selection.version_of(call.one("resourceVersion"))
    obj = await call.registry.get(at.row.stored, at.namespace, at.name)
    if at.subresource == "scale":
        return answer(call, 200, core.scale_of(obj))
    if at.row.conversion is None:
        return answer(call, 200, shown(call, accept, obj))
    return await call.registry.apart(len(meta.encode(obj)), lambda: answer(call, 200, shown(call, accept, obj)))


async def list_(call: Call) -> Response:
    """GET of a collection, a page of at most `limit` objects; `continue` of the answer leads to the next one."""
    accept = accept_of(call)
    at = call.address
    limit = call.number("limit") or 0
    call.number("timeoutSeconds")  # a list takes no time to speak of; nonsense is refused all the same
    start = selection.start_of_list(
        call.one("resourceVersion"), call.one("resourceVersionMatch"), call.one("continue"), limited=limit > 0
    )
    if limit <= 0:  # a negative one limits nothing, as in Kubernetes
        return await _whole_list(call, accept, start)
    page = await call.registry.list_page(
        at.row.stored,
        at.namespace,
        label_selector=call.one("labelSelector"),
        field_selector=call.one("fieldSelector"),
        limit=limit,
        continue_token=start,
        room=_LIMITED,
    )
    inner: Object = {"resourceVersion": page.resource_version}
    if page.continue_token:
        inner["continue"] = page.continue_token
        if page.remaining is not None:
            inner["remainingItemCount"] = page.remaining
    return await _listed(call, accept, page, inner)


async def _whole_list(call: Call, accept: Accept, token: str) -> Response:
    """Encoded page by page: decoded objects take several times the memory of their bytes, and a tenant has tens of megabytes of these."""
    at = call.address
    field = "rows" if accept.as_kind == "Table" else "items"
    head, pieces = b"", list[bytes]()
    while not head or token:
        page = await call.registry.list_page(
            at.row.stored,
            at.namespace,
            label_selector=call.one("labelSelector"),
            field_selector=call.one("fieldSelector"),
            continue_token=token,
            room=_PIECE,
        )
        found = partial(_list_as, call, accept, page.items, {"resourceVersion": page.resource_version})
        encoded = await call.registry.apart(page.size, lambda found=found: meta.encode_list(found(), field))  # type: ignore[misc]
        start = encoded.index(b'"%s":[' % field.encode()) + len(field) + 4
        head = head or encoded[:start]
        if len(encoded) > start + 2:
            pieces.append(encoded[start:-2])
        token = page.continue_token
        del page, found, encoded
    return _answered(call, 200, b"".join((head, b",".join(pieces), b"]}")))


async def _listed(call: Call, accept: Accept, page: Page, inner: Mapping[str, Any]) -> Response:
    def encoded() -> Response:
        found = _list_as(call, accept, page.items, inner)
        return _answered(call, 200, meta.encode_list(found, "rows" if accept.as_kind == "Table" else "items"))

    return await call.registry.apart(page.size, encoded)


def _list_as(call: Call, accept: Accept, items: Sequence[Object], inner: Mapping[str, Any]) -> Object:
    resource = call.address.row.resource
    match accept.as_kind:
        case "Table":
            return tables.table(
                call.address.row,
                items,
                version=accept.version,
                include=include_of(call),
                now=time.time(),
                list_metadata=inner,
            )
        case "":
            return {
                "kind": f"{resource.kind}List",
                "apiVersion": resource.api_version,
                "metadata": inner,
                "items": [versions.shown(call.address.row, item) for item in items],
            }
    return {
        "kind": "PartialObjectMetadataList",
        "apiVersion": f"meta.k8s.io/{accept.version}",
        "metadata": inner,
        "items": [tables.partial(versions.shown(call.address.row, item), accept.version) for item in items],
    }


async def create(call: Call) -> Response:
    """POST to a collection: 201. The namespace in the body, if any, must be that of the URL."""
    accept = accept_of(call)
    at = call.address
    obj = await call.object()
    options = call.write_options()
    _same_namespace(call, obj)
    new = await call.registry.create(at.row.stored, at.namespace, await _stored(call, obj, options), options=options)
    return await written(call, 201, accept, new)


async def _stored(call: Call, obj: Object, options: core.WriteOptions) -> Object:
    row = call.address.row
    return await call.apart(lambda: versions.stored(row, obj, options)) if row.conversion is not None else obj


async def bind(call: Call) -> Response:
    """POST to pods/NAME/binding with a Binding v1, as a scheduler does it: 201 with a Status."""
    body = await call.object()
    options = call.write_options()
    at = call.address
    await call.registry.modify(
        at.row.stored, at.namespace, at.name, lambda old: body, subresource="binding", options=options
    )
    return answer(call, 201, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})


async def create_token(call: Call) -> Response:
    """POST to serviceaccounts/NAME/token: 201 with the TokenRequest, which is not stored."""
    at = call.address
    return answer(call, 201, await call.registry.create_token(at.namespace, at.name, await call.object()))


async def evict(call: Call) -> Response:
    """POST to pods/NAME/eviction, as `kubectl drain` does it: there are no disruption budgets here, so an eviction is a deletion, with the
    same options in its body. Raises BadRequest."""
    body = await call.object()
    at = call.address
    named, options = meta.name_of(body), body.get("deleteOptions") or {}
    if named and named != at.name:
        raise BadRequest(f"the name of the Eviction ({named[:253]}) does not match the name on the URL ({at.name})")
    if not isinstance(options, dict):
        raise BadRequest("deleteOptions must be an object")
    await call.registry.delete_object(PODS, at.namespace, at.name, call.deletion(options))
    return answer(call, 201, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})


async def update(call: Call) -> Response:
    """PUT: replaces the object. A resourceVersion in the body must be the current one (409 otherwise)."""
    accept = accept_of(call)
    at = call.address
    obj = await call.object()
    options = call.write_options()
    _same_namespace(call, obj)
    name = meta.name_of(obj)
    if name != at.name:
        raise BadRequest(f"the name of the object ({name[:253]}) does not match the name on the URL ({at.name})")
    change = versions.change(at.row, lambda old: obj, options)
    new = await call.registry.modify(
        at.row.stored, at.namespace, at.name, change, subresource=at.subresource, options=options
    )
    return await written(call, 200, accept, new)


async def patch_(call: Call) -> Response:
    """PATCH with a JSON patch (RFC 6902), merge patch (RFC 7386), strategic merge patch or apply patch, by the content type."""
    accept = accept_of(call)
    at = call.address
    schema = "" if at.subresource == "scale" else at.row.strategy.schema
    media = content.media_type(call.request.header("content-type") or "")
    data = await call.body()
    options = call.write_options()
    status = 200
    if media == "application/apply-patch+yaml":
        status, new = await _apply(call, await call.apart(lambda: yaml_body.decode_yaml(data)), options)
    else:
        change = versions.change(at.row, await _change(call, media, schema, data), options)
        new = await call.registry.modify(
            at.row.stored, at.namespace, at.name, change, subresource=at.subresource, options=options
        )
    return await written(call, status, accept, new)


async def _change(call: Call, media: str, schema: str, data: bytes) -> Callable[[Object], Any]:
    if media == "application/json-patch+json":
        body = await call.apart(lambda: content.decode_json(data, _OPERATIONS))
        return _answerable(call, lambda old: patch.apply_json_patch(old, body))
    strategic_too = (schema and call.address.row.strategy.strategic) or call.address.subresource == "scale"
    if media != "application/merge-patch+json" and not (media == _STRATEGIC and strategic_too):
        raise UnsupportedMediaType(
            f"the body of the request was in an unknown format ({media[:100]}) - accepted media types include: "
            "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, "
            "application/apply-patch+yaml"
        )
    body = await call.apart(lambda: content.decode_json(data))
    if not isinstance(body, dict):
        raise BadRequest("a merge patch must be an object")
    if media == "application/merge-patch+json" or not schema:
        return _answerable(call, lambda old: patch.merge(old, body))
    return _answerable(call, lambda old: strategic.apply(schema, old, body))


def _answerable(call: Call, change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A patch that does not fit the object is the client's mistake: 422, as the real API server says it."""
    at = call.address

    def changed(old: Any) -> Any:
        try:
            return change(old)
        except StatusError:
            raise
        except Invalid as exc:
            raise InvalidObject.of(at.row.resource, at.name, [FieldError("patch", str(exc))]) from exc

    return changed


async def _apply(call: Call, body: Any, options: core.WriteOptions) -> tuple[int, Object]:
    """Server-side apply (kubeedge.api.managed_fields): the status code and the object."""
    at = call.address
    if not isinstance(body, dict):
        raise BadRequest("the body must be an object")
    _same_namespace(call, body)
    if not call.one("fieldManager"):
        raise BadRequest("fieldManager is required for apply patch")
    schema = at.row.strategy.schema
    body = {**body, "metadata": {**meta.metadata(body), "name": at.name}}
    # who owns a field is kept by its name in the stored version: another one merges without owners
    owned = call.registry.owners and not at.subresource and at.row.conversion is None
    options = replace(options, applied=owned)

    def applied(old: Object | None) -> Any:
        if owned:
            force = call.flag("force")
            return managed_fields.applied(schema, old, body, options.manager, force=force, now=call.registry.now())
        if old is None:
            return body
        return strategic.apply(schema, old, body) if schema else patch.merge(old, body)

    make = _answerable(call, applied)
    change = versions.change(at.row, make, options)
    while True:
        try:
            new = await call.registry.modify(
                at.row.stored, at.namespace, at.name, change, subresource=at.subresource, options=options
            )
            return 200, new
        except ObjectNotFound:
            if at.subresource:
                raise
        made = await _stored(call, await call.apart(lambda: make(None)), options)
        with contextlib.suppress(AlreadyExists):
            return 201, await call.registry.create(at.row.stored, at.namespace, made, options=options)


async def delete(call: Call) -> Response:
    """DELETE of one object: a Status if it is gone, else the object, which waits for its grace period or finalizers."""
    accept = accept_of(call)
    at = call.address
    options = await call.delete_options()
    obj, gone = await call.registry.delete_object(at.row.stored, at.namespace, at.name, options)
    if gone and accept.as_kind == "" and not at.row.answers_deleted:
        return answer(call, 200, success(at.row.resource, at.name, str(meta.metadata(obj).get("uid", ""))))
    return answer(call, 200, shown(call, accept, obj))


async def delete_collection(call: Call) -> Response:
    """DELETE of all objects that the selectors match: 200 with them, or with a Status where they are too many. Raises MethodNotAllowed for a
    namespaced resource without a namespace."""
    accept = accept_of(call)
    at = call.address
    options = await call.delete_options()
    if at.row.resource.namespaced and not at.namespace:
        raise MethodNotAllowed
    gone = await call.registry.delete_collection(
        at.row.stored,
        at.namespace,
        options,
        label_selector=call.one("labelSelector"),
        field_selector=call.one("fieldSelector"),
    )
    if gone is None:
        return answer(call, 200, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})
    return answer(call, 200, _list_as(call, accept, gone, {"resourceVersion": ""}))


def _same_namespace(call: Call, obj: Object) -> None:
    namespace = meta.namespace_of(obj)
    if call.address.row.resource.namespaced:
        if not call.address.namespace:
            raise BadRequest("the namespace is missing in the URL: /namespaces/NAMESPACE/...")
        if namespace and namespace != call.address.namespace:
            raise BadRequest(
                f"the namespace of the provided object does not match the namespace sent on the request: "
                f"{namespace[:253]} is not {call.address.namespace}"
            )
