"""The cloud end of the hub channel: many nodes, one session each.

Lives here:      the WebSocket server (module), who is attached (sessions).
Lives elsewhere: the session and its pump (kubeedge.hub), what runs over it (kubeedge.sync).
"""
