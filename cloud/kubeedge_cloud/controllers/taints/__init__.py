"""Evicts pods that do not tolerate a NoExecute taint of their node: Kubernetes' taint eviction controller."""
