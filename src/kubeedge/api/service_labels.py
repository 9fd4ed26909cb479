"""Labels of Services and EndpointSlices by which kube-proxy, and so a node of ours, leaves them to another proxy. Pure."""

from __future__ import annotations

#: whatever their value; names are answered all the same
OTHER_PROXY = ("service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless")
