"""Who may use a tenant's Kubernetes API: kubeconfigs that can be listed, revoked and replaced.

Lives here:      what is recorded of each (core, records), who is let in (module), the administrator's files (files).
Lives elsewhere: signing (kubeedge.pki.ca), the API itself (kubeedge.apiserver), the administrator's routes (kubeedge_cloud.bootstrap.admin).
"""
