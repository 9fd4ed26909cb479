"""The agent as a process: what it answers on its control socket, its metrics, and who may use its kubelet API.

parts.py    which components run; the other files read it
control.py  the routes of the control socket
status.py   the answers of `kubeedge status`, `links`, `routes` and `sync status`
metrics.py  the figures for Prometheus
runtimes.py the runtime of this node, from its configuration
kubelet.py  the kubelet API of this node, for the cloud and for the node's own API
salvage.py  what is kept of a corrupt store

Lives elsewhere: which components there are and in which order they start (kubeedge.edgecore).
"""
