"""Gateway API and Ingress on the cloud's web listener: what the objects of the tenants say, as one table of routes.

Lives here:      the table (model, table), what makes it (httproutes, ingresses, listeners, core), who has a host name (hostnames), the objects
                 of a tenant and their status (driver, module), certificates, requests on their way to pods (filters, backends, proxy).
Lives elsewhere: the objects and their rules (kubeedge.api.gateway), the listener (kubeedge_cloud.publishing), the nodes' side
                 (kubeedge.kubebus.pod_streams).
"""
