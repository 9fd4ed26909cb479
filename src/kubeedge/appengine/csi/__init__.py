"""Container Storage Interface: the node's side of it, for drivers that nobody here has written (container-storage-interface/spec, csi.proto v1).

plugins.py   drivers that register at this node, as at a kubelet
client.py    calls on a driver's socket
core.py      what the calls say, and where volumes are
records.py   what was asked of drivers, on disk: it outlives the agent, the pod's specification and a power cut
node.py      stage, publish, and back, in that order, each as often as it takes

KUBELET/plugins_registry/*.sock                                     registration sockets
KUBELET/plugins/kubernetes.io/csi/DRIVER/HASH/globalmount           where a volume is staged
KUBELET/pods/UID/volumes/kubernetes.io~csi/NAME/mount               where it is published for a pod
"""
