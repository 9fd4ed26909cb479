"""What the demo applies. One image, made locally from Debian's busybox."""

from __future__ import annotations

import json
from typing import Any

IMAGE = "docker.io/library/demo:1"
SAY_HELLO = "echo started $GREETING; exec sleep 100000"
SERVE = (
    "mkdir -p /www && cp /config/* /www/ && truncate -s 100M /www/big && echo started && exec httpd -f -p 8080 -h /www"
)


def _template(app: str, command: str, node: str, **container: Any) -> dict[str, Any]:
    return {
        "metadata": {"labels": {"app": app}},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node} if node else {},
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {"name": "main", "image": IMAGE, "imagePullPolicy": "IfNotPresent",
                 "command": ["sh", "-c", command],
                 "resources": {"requests": {"cpu": "10m", "memory": "8Mi"}, "limits": {"cpu": "500m", "memory": "32Mi"}},
                 **container}
            ],
        },
    }  # fmt: skip


def web(node: str) -> str:
    """A web server with its pages from a ConfigMap, published as web service "web"."""
    template = _template(
        "web",
        SERVE,
        node,
        ports=[{"name": "http", "containerPort": 8080}],
        volumeMounts=[{"name": "config", "mountPath": "/config"}],
    )
    template["spec"]["volumes"] = [{"name": "config", "configMap": {"name": "pages"}}]
    return _list(
        configmap("pages", {"index.html": "hello from the edge\n"}),
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web"},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": template},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web", "annotations": {"kubeedge.io/publish": "web"}},
            "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
        },
    )


def cluster_web(node: str) -> str:
    """A web server on a machine of the cluster, with a Service."""
    serve = "mkdir -p /www && echo hello from the cluster > /www/index.html && exec httpd -f -p 8080 -h /www"
    template = _template("cluster-web", serve, "")
    spec = {**template["spec"], "nodeName": node}
    return _list(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "cluster-web", **template["metadata"]}, "spec": spec},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "cluster-web"},
            "spec": {"selector": {"app": "cluster-web"}, "ports": [{"port": 80, "targetPort": 8080}]},
        },
    )


def hello() -> str:
    """One pod on every node."""
    return json.dumps(
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {"name": "hello"},
            "spec": {
                "selector": {"matchLabels": {"app": "hello"}},
                "template": _template("hello", SAY_HELLO, "", env=[{"name": "GREETING", "value": "daemon"}]),
            },
        }
    )


def sleeper(name: str, node: str, greeting: str) -> str:
    """A Deployment of one pod; a changed greeting is a changed template."""
    env = [{"name": "GREETING", "value": greeting}]
    return json.dumps(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": {"app": name}},
                "template": _template(name, SAY_HELLO, node, env=env),
            },
        }
    )


def pod(name: str, node: str) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, **_without_metadata(name, node)})


def configmap(name: str, data: dict[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def _without_metadata(name: str, node: str) -> dict[str, Any]:
    template = _template(name, SAY_HELLO, node)
    return {"spec": template["spec"]}


def _list(*items: dict[str, Any]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(items)})
