"""Requests and connections on their way to pods, by one table of routes: in the cloud, and at the Gateways of a node.

Lives here:      the table (model, table, points), what filters make of a request (filters), the proxies (front, proxy, streams, pods) and
                 the ports that Gateways have (openports, handshakes, client_hello).
Lives elsewhere: what the objects of a tenant say, as a table (kubeedge_cloud.gateway); published services (kubeedge.kubebus.http).
"""
