"""How a machine becomes a node: a token buys one certificate.

Lives here:      token records (tokens), the join and renew endpoints (server), the administrator's routes (admin).
Lives elsewhere: the authority (kubeedge.pki.ca), node numbers and addresses (kubeedge_cloud.tenants).
"""
