"""Deployments: ReplicaSets by template, rolled out and back."""
