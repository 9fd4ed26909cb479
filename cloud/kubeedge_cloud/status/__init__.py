"""What a cloud process reports of itself and of all nodes, to operators and to Prometheus.

Lives here:      nodes of all tenants (nodes), progress of sync (sync), this process (process), its metrics (metrics).
Lives elsewhere: who asks (kubeedge_cloud.admin, kubeedge.metrics.module), links of nodes (kubeedge_cloud.bushub.observe).
"""
