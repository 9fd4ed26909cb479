"""A small chart of Helm: a Deployment with its Service, ConfigMap, Secret and ServiceAccount."""

from __future__ import annotations

from pathlib import Path

CHART = {
    "Chart.yaml": "{apiVersion: v2, name: web, version: 0.1.0}",
    "values.yaml": "{replicas: 1, colour: blue, node: {}}",
    "templates/account.yaml": """
apiVersion: v1
kind: ServiceAccount
metadata: {name: "{{ .Release.Name }}"}
""",
    "templates/settings.yaml": """
apiVersion: v1
kind: ConfigMap
metadata: {name: "{{ .Release.Name }}"}
data: {colour: "{{ .Values.colour }}"}
""",
    "templates/secret.yaml": """
apiVersion: v1
kind: Secret
metadata: {name: "{{ .Release.Name }}"}
stringData: {key: value}
""",
    "templates/service.yaml": """
apiVersion: v1
kind: Service
metadata: {name: "{{ .Release.Name }}"}
spec: {selector: {app: web}, ports: [{port: 80}]}
""",
    "templates/deployment.yaml": """
apiVersion: apps/v1
kind: Deployment
metadata: {name: "{{ .Release.Name }}"}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      serviceAccountName: "{{ .Release.Name }}"
      terminationGracePeriodSeconds: 0
      nodeSelector: {{ .Values.node | toJson }}
      containers: [{name: web, image: "busybox:1"}]
""",
}


def write(folder: Path) -> str:
    """The chart's directory, as Helm takes it."""
    for name, text in CHART.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(folder)
