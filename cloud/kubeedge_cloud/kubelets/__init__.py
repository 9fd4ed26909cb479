"""The kubelet ports of the edge nodes, for the API server of a cluster: one TCP port of the cloud process leads to one node, over KubeBus.

core.py    which port is whose, and who may use them (pure)
module.py  listening, TLS, the connection to the node
"""
