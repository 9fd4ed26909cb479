"""EdgeController, the cloud half of the kubelet (the paper's section 3.3): between the Kubernetes API and the nodes' metadata.

Lives here:      what a node should have (node_objects), what its Node says (core), both directions for every tenant (driver).
Lives elsewhere: moving it to the node and back (kubeedge.sync), pods without a node (kubeedge_cloud.controllers).
"""
