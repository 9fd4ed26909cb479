"""KubeBus@Cloud: the relay between the links of each tenant's nodes, and the cloud's own interface on every tenant's network.

Lives here, of nodes that are linked to us:
    core        who is admitted and what follows: links of one node (linked), networks behind nodes (subnets), what the data plane has to do (actions)
    driver      events of the data plane, conversations, time (timer_wheel); links whose owner is not known yet (accepted); records that change (authorizer)
    module      the relay as the rest of the cloud sees it; L4 in each tenant (endpoints), our own interface (tun)
of other relays:
    peer_table  what follows from what they say (records)
    peers       what is read of them in the store, registration what we write there, peer_links the links to them

Lives elsewhere: packets (the data plane), the conversation (kubeedge.kubebus.l2), node records (kubeedge_cloud.tenants).
"""
