"""KubeBus L3: packets between TUN and links, by routes that are kept for each tenant.

Lives here:      the interface of the data plane (plane), TUN devices (tun), addresses and routes of the kernel (netsetup).
Lives elsewhere: the C threads behind it (kubeedge._fastpath), who may use a link (the relay, kubeedge_cloud.bushub).
"""
