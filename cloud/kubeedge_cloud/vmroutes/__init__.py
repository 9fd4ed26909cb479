"""On each machine of a cluster: the routes to the edge nodes, by way of the machine whose cloud process is the virtual router.

Lives here:      which machine that is (core), the routes in this machine's kernel (module).
Lives elsewhere: the router itself (kubeedge_cloud.bushub.tun), netlink (kubeedge.kubebus.l3).
"""
