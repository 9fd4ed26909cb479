"""Device plugins: vendors' programs that offer devices of this machine to containers (k8s.io/kubelet, deviceplugin/v1beta1).

core.py          what plugins say, and which devices a container gets
table.py         field numbers of the API, and of podresources/v1
records.py       which container has which devices, on disk: it outlives the agent and a power cut
plugins.py       plugins that have registered: their devices as they come, go and fail
manager.py       allocation to containers, and what the node has
pod_resources.py who asks which pod has which devices (podresources/v1)

KUBELET/device-plugins/kubelet.sock    where plugins register, and beside it their own sockets
KUBELET/pod-resources/kubelet.sock     for monitors
"""
