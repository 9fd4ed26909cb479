"""The channel between an edge node and the cloud: one WebSocket over mutual TLS, always opened by the edge.

Lives here:      the session (core), the WebSocket pump of both ends (driver), the edge end (edgehub).
Lives elsewhere: the cloud end (kubeedge_cloud.cloudhub), what travels over the channel (kubeedge.sync).
"""
