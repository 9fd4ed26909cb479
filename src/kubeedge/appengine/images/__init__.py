"""Images: which are here (store), unpacking layers (unpack), bringing them from an archive or a registry (fetch).

Unpacking and pulling run in a short-lived helper process, so that the agent does not keep what they need.
"""
