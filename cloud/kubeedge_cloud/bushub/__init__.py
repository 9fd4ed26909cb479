"""KubeBus@Cloud: the relay between the links of each tenant's nodes, and the cloud's own interface on every tenant's network.

Lives here:      who may have a link and which addresses are his (hub, core), when its authorization ends (authorizer), when to look at a link (timer_wheel),
                 other relays (peers), our own TUN (tun).
Lives elsewhere: packets (the data plane), the conversation (kubeedge.kubebus.l2), node records (kubeedge_cloud.tenants).
"""
