"""The embedded Kubernetes API: one process, many tenants, real kubectl as the client.

Lives here:      the registry (objects over a store), HTTP, discovery, tables for kubectl.
Lives elsewhere: kinds, defaults, rules and patches (kubeedge.api), controllers and scheduler (kubeedge_cloud).

`Registry` is the KubeClient of one tenant, in process; `ApiServer` serves registries over HTTP; `ApiServerModule`
plugs it into the process.
"""
