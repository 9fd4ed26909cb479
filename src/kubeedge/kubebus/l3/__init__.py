"""KubeBus L3: packets between TUN and links, by routes that are kept for each tenant.

Lives here:      the data plane's door (plane), TUN devices (tun), addresses and routes of the kernel (netsetup).
Lives elsewhere: the C threads behind the door (kubeedge._fastpath), who may use a link (the relay, kubeedge_cloud.bushub).
"""
