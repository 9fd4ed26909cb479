"""Web services of edge nodes, by URL: http://<host>[:port]/<TenantId>/<EdgeNodeName>/<WebServiceName>/<path>.

    web client ── TCP ── client proxy ══ L4 port 80 ══ server proxy ── TCP ── service
      (browser, curl)    cloud or edge                 the service's node      127.0.0.1:8080, a pod

Figures 4 and 5 of the paper: the client proxy is at the cloud's public name, and at localhost on every edge node.

Lives here:      the URL (url), which headers cross and how they change (headers), how much of it (limits) and how much it was
                 (accounts), forwarding one exchange (forward), both proxies, the TCP listener, who may use a service (access).
Lives elsewhere: HTTP/1.1 itself (kit/http1), L4 (kubebus/l4), which services there are and the modules of both sides
                 (kubeedge.publishing, kubeedge_cloud.publishing).
"""
