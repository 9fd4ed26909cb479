"""Who may use a tenant's Kubernetes API: kubeconfigs that can be listed, revoked and replaced.

Lives here:      what is recorded of each (core, records), which are accepted (module), their files (files), the administrator's own (admin).
Lives elsewhere: signing (kubeedge_cloud.authority.ca), the API itself (kubeedge.apiserver), the administrator's routes (kubeedge_cloud.admin.kubeconfigs).
"""
