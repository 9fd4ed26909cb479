"""Kubernetes' own conformance tests with edge nodes: `make conformance`."""
