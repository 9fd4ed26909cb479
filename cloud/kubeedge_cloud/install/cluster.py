"""A cluster by its kubeconfig, for commands: one request after the other, and errors that say what to do.

The kubeconfig is read, and plugins are run, by the package kubernetes; objects are plain JSON.
"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from kubeedge.api.names import Object
from kubeedge.errors import Conflict, Invalid, KubeEdgeError, NotFound, Refused, Unavailable, suspect_clock, with_next

MANAGER = "kubeedge"  # of fields, in server-side apply
OLDEST = (1, 30)
_TIMEOUT = 30.0  # seconds for an answer
_CREDENTIALS = ("BearerToken", "authorization")  # as newer and older releases of the package name it
_LIMIT = 64 * 1024 * 1024  # bytes of an answer


class TargetCluster:
    """`kubeconfig`: a file, None for the usual one. Raises Invalid when it cannot be used."""

    def __init__(self, kubeconfig: Path | None, context: str = "") -> None:
        try:
            from kubernetes.client import Configuration
            from kubernetes.client.rest import RESTClientObject
            from kubernetes.config import kube_config
            from kubernetes.config.config_exception import ConfigException
        except ModuleNotFoundError as exc:
            raise with_next(
                Unavailable(f"the package {exc.name} is needed for kubeconfigs"),
                "pip install 'kubeedge-cloud[kubernetes]'",
            ) from exc

        self._flag = f" --kube-config {kubeconfig}" if kubeconfig else ""
        self.source = str(kubeconfig or kube_config.KUBE_CONFIG_DEFAULT_LOCATION)
        self.configuration = Configuration()
        try:
            kube_config.load_kube_config(  # type: ignore[no-untyped-call]
                None if kubeconfig is None else str(kubeconfig),
                context or None,
                self.configuration,
                persist_config=False,
            )
        except (ConfigException, yaml.YAMLError, OSError, ValueError, TypeError, AttributeError, KeyError) as exc:
            raise with_next(
                Invalid(f"the kubeconfig {self.source} cannot be used: {_line(exc)}"),
                "name another one with --kube-config or --context, or try it with `kubectl --kubeconfig FILE get nodes`",
            ) from exc
        if not self.configuration.verify_ssl:
            raise with_next(
                Invalid(f"{self.source} turns the check of the server's certificate off (insecure-skip-tls-verify)"),
                "put the cluster's authority into the file instead: certificate-authority-data",
            )
        self.configuration.retries = False
        self._pool = RESTClientObject(self.configuration).pool_manager
        self._plurals: dict[tuple[str, str], tuple[str, bool]] = {}

    def close(self) -> None:
        """Closes the connections that are idle."""
        self._pool.clear()

    @property
    def server(self) -> str:
        """The URL of its API server."""
        return str(self.configuration.host)

    def diagnose(self, namespace: str) -> str:
        """The command that says what is wrong in a namespace of this cluster."""
        return f"kubeedge debug diagnose{self._flag} --namespace {namespace}"

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        content_type: str = "application/json",
        **query: str | bool,
    ) -> Object:
        """The answer's JSON; text, of a log say, as {"text": ...}. Raises Refused, NotFound, Conflict, Invalid, Unavailable."""
        asked = {key: str(value).lower() if isinstance(value, bool) else value for key, value in query.items() if value}
        url = self.server.rstrip("/") + path + (f"?{urllib.parse.urlencode(asked)}" if asked else "")
        headers = {"accept": "application/json, */*", "content-type": content_type, "user-agent": "kubeedge"}
        if credentials := self._credentials():
            headers["authorization"] = credentials
        import urllib3

        try:
            answer = self._pool.request(
                method, url, body=None if body is None else json.dumps(body), headers=headers, timeout=_TIMEOUT,
                retries=False, redirect=False, preload_content=False,
            )  # fmt: skip
            data = answer.read(_LIMIT + 1)
            answer.release_conn()
        except urllib3.exceptions.HTTPError as exc:
            raise self._unreachable(exc) from exc
        if len(data) > _LIMIT:
            raise Invalid(f"{path}: an answer of more than {_LIMIT} bytes")
        found = _decoded(data)
        if answer.status >= 300:
            raise self._error(answer.status, str(found.get("message") or found.get("text") or answer.status), found)
        return found

    def _credentials(self) -> str:
        """Of a token or an exec plugin; "" with a client certificate."""
        named = (self.configuration.get_api_key_with_prefix(name) for name in _CREDENTIALS)
        return next((str(found) for found in named if found), "")

    # Objects

    def path(self, api_version: str, kind: str, namespace: str = "", name: str = "") -> str:
        """Of one object, or, without a name, of all of the kind. Raises NotFound when the cluster has no such kind."""
        plural, namespaced = self._plural(api_version, kind)
        base = f"/api/{api_version}" if "/" not in api_version else f"/apis/{api_version}"
        middle = f"/namespaces/{namespace}" if namespaced and namespace else ""
        return f"{base}{middle}/{plural}" + (f"/{urllib.parse.quote(name, safe='')}" if name else "")

    def resource(self, api_version: str, kind: str) -> tuple[str, str, bool]:
        """API group, plural, and whether it is in namespaces. Raises NotFound."""
        return (api_version.rpartition("/")[0], *self._plural(api_version, kind))

    def path_of(self, each: Object) -> str:
        """The URL path of an object, which discovery says for its apiVersion and kind."""
        metadata = each["metadata"]
        return self.path(each["apiVersion"], each["kind"], metadata.get("namespace", ""), metadata["name"])

    def get(self, api_version: str, kind: str, name: str, namespace: str = "") -> Object | None:
        """None when it is not there."""
        try:
            return self.request("GET", self.path(api_version, kind, namespace, name))
        except NotFound:
            return None

    def list(self, api_version: str, kind: str, namespace: str = "", selector: str = "") -> list[Object]:
        """The objects of a kind in a namespace, or in all; [] when the cluster has no such kind."""
        try:
            answer = self.request("GET", self.path(api_version, kind, namespace), labelSelector=selector)
        except NotFound:
            return []
        return [{"apiVersion": api_version, "kind": kind, **item} for item in answer["items"]]

    def apply(self, each: Object, *, force: bool = False, dry_run: bool = False) -> tuple[Object, str]:
        """Server-side apply: the object, and "created", "configured" or "unchanged". Raises Conflict when a field is another's."""
        path = self.path_of(each)
        try:
            before = self.request("GET", path)
        except NotFound:
            before = {}
        after = self.request(
            "PATCH", path, each, content_type="application/apply-patch+yaml", fieldManager=MANAGER, force=force,
            dryRun="All" if dry_run else "",
        )  # fmt: skip
        if not before:
            return after, "created"
        same = _without_management(before) == _without_management(after)
        return after, "unchanged" if same else "configured"

    def delete(self, each: Object) -> bool:
        """Whether it was there; what belongs to it goes, too."""
        try:
            self.request("DELETE", self.path_of(each), {"propagationPolicy": "Background"})
        except NotFound:
            return False
        return True

    def may(self, verb: str, group: str, resource: str, namespace: str = "") -> bool:
        """What RBAC says to our user."""
        attributes = {"verb": verb, "group": group, "resource": resource, "namespace": namespace}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        answer = self.request("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
        return bool(answer["status"].get("allowed"))

    def account_may(self, namespace: str, account: str, verb: str, group: str, resource: str, name: str = "") -> bool:
        """What the cluster allows a service account in all namespaces. Raises Refused when our user may not ask."""
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": f"system:serviceaccount:{namespace}:{account}",
                "groups": ["system:authenticated", "system:serviceaccounts", f"system:serviceaccounts:{namespace}"],
                "resourceAttributes": {"verb": verb, "group": group, "resource": resource, "name": name},
            },
        }
        answer = self.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
        return bool(answer["status"].get("allowed"))

    def version(self) -> str:
        """The version of the API server, like "v1.37.2". Raises Invalid when it is too old."""
        found = self.request("GET", "/version")
        digits = ("".join(filter(str.isdigit, str(found.get(key, "")))) for key in ("major", "minor"))
        numbers = tuple(int(each or 0) for each in digits)
        if numbers < OLDEST:
            raise Invalid(f"{self.server} runs Kubernetes {found.get('gitVersion')}; {OLDEST[0]}.{OLDEST[1]} is needed")
        return str(found["gitVersion"])

    def _plural(self, api_version: str, kind: str) -> tuple[str, bool]:
        if (api_version, kind) not in self._plurals:
            base = f"/api/{api_version}" if "/" not in api_version else f"/apis/{api_version}"
            try:
                resources = self.request("GET", base)["resources"]
            except NotFound:
                resources = []
            for resource in resources:
                if "/" not in resource["name"]:
                    self._plurals[api_version, resource["kind"]] = resource["name"], bool(resource["namespaced"])
        try:
            return self._plurals[api_version, kind]
        except KeyError:
            raise NotFound(f"{self.server} has no {kind} of {api_version}") from None

    # Errors

    def _unreachable(self, exc: Exception) -> KubeEdgeError:
        reason = suspect_clock(_reason(exc))
        error = Unavailable(f"{self.server} of {self.source} does not answer: {reason}")
        return with_next(error, f"try `kubectl --kubeconfig {self.source} version` on this machine")

    def _error(self, status: int, message: str, found: Object) -> KubeEdgeError:
        match status:
            case 401:
                return with_next(
                    Refused(
                        f"{self.server} does not know the user of {self.source}: its credentials are wrong or expired"
                    ),
                    "get a new kubeconfig from whoever runs the cluster",
                )
            case 403:
                return Refused(f"{self.source}: {message}")
            case 404:
                return NotFound(message)
            case 409:
                causes = found.get("details", {}).get("causes", [])
                fields = ", ".join(f"{cause.get('field')} ({cause.get('message')})" for cause in causes)
                return Conflict(f"{message}{f': {fields}' if fields and fields not in message else ''}")
            case 400 | 413 | 422:
                return Invalid(message)
        return Unavailable(f"{self.server} answers {status}: {message:.300}")


def _decoded(data: bytes) -> Object:
    try:
        found = json.loads(data)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"text": data.decode(errors="replace")}


def _without_management(each: Mapping[str, Any]) -> Object:
    metadata = {k: v for k, v in each.get("metadata", {}).items() if k not in ("managedFields", "resourceVersion")}
    return {**{k: v for k, v in each.items() if k != "status"}, "metadata": metadata}


def _reason(exc: BaseException) -> str:
    """The innermost one, in its own words."""
    inner = getattr(exc, "reason", None) or exc.__cause__ or exc.__context__
    if isinstance(inner, BaseException) and inner is not exc:
        return _reason(inner)
    return _line(exc)


def _line(exc: BaseException) -> str:
    said = " ".join(str(exc).split())
    return f"{said or type(exc).__name__:.300}"
