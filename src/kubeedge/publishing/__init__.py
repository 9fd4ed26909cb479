"""Publishing on an edge node: which web services it has, who may use them, and both of its HTTP proxies.

module.py          the module "publishing": client proxy on localhost, server proxy for the services of this node
servicetable/      the module "servicetable": the services of this node, from what is in its store
service_record.py  what `kubeedge publish` keeps in the store
published.py       what `kubeedge publish` changes there

Lives elsewhere: the proxies themselves (kubeedge.kubebus.http), the cloud's module (kubeedge_cloud.publishing).
"""
