"""The administration API on the cloud's unix socket: what `kubeedge tenant`, `token`, `kubeconfig`, `node`, `status`, `links` and others ask.

Lives here:      the routes, by subject (tenants, kubeconfigs, network), and which of them a request means (routes).
Lives elsewhere: the socket and its errors (kubeedge.control), what is answered about nodes and this process (kubeedge_cloud.status).
"""
