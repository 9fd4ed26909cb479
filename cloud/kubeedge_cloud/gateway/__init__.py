"""Gateway API and Ingress: what the objects of the tenants say, as one table of routes for the cloud and one for each node that serves some.

Lives here:      what makes the tables (httproutes, ingresses, listeners, core; nodes), who has a host name (hostnames, claims), the objects
                 of a tenant and their status (driver, module, conditions), certificates, where pods are (backends), tables of nodes (sites).
Lives elsewhere: the table and the proxies (kubeedge.gateway), the objects and their rules (kubeedge.api.gateway), the listener
                 (kubeedge_cloud.publishing), the nodes' side of connections to pods (kubeedge.kubebus.pod_streams).
"""
