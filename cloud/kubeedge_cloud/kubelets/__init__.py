"""The kubelet ports of the edge nodes, for the API server of a cluster: one TCP port of the cloud process leads to one node, over KubeBus.

core.py      which port is whose, what a request needs, what was answered (pure)
reviews.py   tokens and rights, asked of the cluster
requests.py  requests of those who are not the API server
module.py    listening, TLS, the connection to the node
"""
