"""The edge's own API: kubectl on the node itself, with or without the cloud (KubeEdge's MetaServer).

Lives here:      the objects of this node as a cluster of its own (view), what pods see of pending writes (effective), both over one
                 way to read (core, pending); what becomes of writes (edgewrites); who may ask (access, credentials); the module.
Lives elsewhere: verbs, tables, discovery, HTTP (kubeedge.apiserver); the form of a write (kubeedge.api.edge_writes); merging it
                 (kubeedge_cloud.edgecontroller.writes).
"""
