"""Connections to the kubelet APIs of nodes, and their end when a node is lost."""
