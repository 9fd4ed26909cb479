"""The Kubernetes API of a cluster that is a user's own: the other implementation of kubeedge.api.client.KubeClient.

    source (kubeconfig, in-cluster) ─ loading.py, a helper process ─> Access ─ credentials.py keeps it fresh
    client.py (KubeClient) ──> transport.py (connections, TLS, proxies) ──> kube-apiserver

Lives here:      one cluster's client; which client a tenant has (apis.py); core.py has what is pure.
Lives elsewhere: what is done with it (kubeedge_cloud.edgecontroller), caches (kubeedge_cloud.controllers.informer).
"""
