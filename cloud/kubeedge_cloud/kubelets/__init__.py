"""The kubelet ports of the edge nodes, for the API server of a cluster: one TCP port of the cloud process leads to one node, over KubeBus.

core.py      which port is whose, what a request needs, what was answered (pure)
contexts.py  which certificate a port shows
signing.py   what a cluster is asked for as a serving certificate (pure)
key_pairs.py those certificates and their keys on the disk
serving.py   asking for them, renewing them
reviews.py   tokens and rights, asked of the cluster
requests.py  requests of those who are not the API server
nodestreams  connections to nodes, ended when their node is lost
module.py    listening, TLS, the connection to the node
"""
