"""The certificate authority that a store's nodes trust, and the certificate of this cloud process.

Lives here:      whether the authority is the store's (authority), the server certificate and its renewal (module), the
                 operator's own certificates (filecertificate).
Lives elsewhere: signing (kubeedge_cloud.authority.ca), certificates of nodes (kubeedge_cloud.bootstrap) and of users (kubeedge_cloud.kubeconfigs).
"""
