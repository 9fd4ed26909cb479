"""Services that mean something by their name or their labels, to nodes as to a kubelet and kube-proxy. Pure."""

from __future__ import annotations

#: namespace and name of the Service that is the API server: every container is told its address, whatever its namespace and enableServiceLinks
API_SERVER = ("default", "kubernetes")
#: labels of Services and EndpointSlices by which they are left to another proxy, whatever their value; names are answered all the same
OTHER_PROXY = ("service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless")
