"""Published web services at the cloud's public name: http://<host>/<tenant>/<node>/<service>/<path>.

Lives here:      the public listener (module), services of the cloud itself (services), metrics (observe).
Lives elsewhere: the proxies (kubeedge.kubebus.http), L4 towards the nodes (kubeedge_cloud.bushub), the operator's certificate
                 (kubeedge_cloud.certificates.filecertificate).
"""
