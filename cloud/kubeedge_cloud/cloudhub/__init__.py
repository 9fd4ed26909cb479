"""The cloud end of the hub channel: many nodes, one session each.

Lives here:      the WebSocket server and who is attached (module), who is admitted (admission), session keys (core).
Lives elsewhere: the session and its pump (kubeedge.hub), what runs over it (kubeedge.sync).
"""
