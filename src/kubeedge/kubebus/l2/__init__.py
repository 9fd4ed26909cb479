"""KubeBus L2: the conversation on a link. Frames and TLS are the data plane's (kubeedge.kubebus.l3.plane)."""
