"""A real Kubernetes control plane in a host of the tests' topology: etcd, API server, controllers, scheduler (tests.kit.upstream).

    with Topology() as net:
        cluster = KubernetesCluster(net.host("control"), tmp_path, address="203.0.113.10")
        cluster.start()                                  # about 6 s; the default ServiceAccount is there, too
        cluster.kubectl("get", "nodes")                  # as a member of system:masters
        cluster.kubeconfig("jane", groups=["dev"])       # a client certificate for anybody; RBAC decides
        cluster.kill("kube-apiserver"); cluster.start_part("kube-apiserver"); cluster.wait()

RBAC and the Node authorizer, NodeRestriction, TLS everywhere, CSR signing, aggregation, an issuer of service account tokens, a client
certificate for the kubelets' ports (checked against `kubelet_ca`), pod CIDRs from the cluster's allocator.

cluster.py starts and stops the parts, parts.py has their command lines, identities.py their certificates and the kubeconfigs.
"""

from tests.kit.cluster.cluster import KubernetesCluster

__all__ = ["KubernetesCluster"]
