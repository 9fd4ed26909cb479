"""How a machine becomes a node: a token buys one certificate.

Lives here:      token records (tokens), the join and renew endpoints (service), their port (module), what is allowed (core).
Lives elsewhere: the authority (kubeedge_cloud.authority.ca), node numbers and addresses (kubeedge_cloud.tenants).
"""
