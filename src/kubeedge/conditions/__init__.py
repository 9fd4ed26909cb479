"""Conditions of this node that only the node itself knows, said to the cloud over the hub's channel."""
