"""Conditions of this node that only the node itself knows, reported to the cloud over the hub's channel."""
