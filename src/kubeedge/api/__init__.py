"""Kubernetes-shaped values and names: no I/O, no clock.

Lives here:      identifiers, the key layout of the stores, selectors, quantities, time stamps, the KubeClient contract.
Lives elsewhere: the API server (kubeedge.apiserver), what a kubelet makes of a Pod (kubeedge.appengine).

Objects travel as JSON dictionaries with Kubernetes' own field names; a component that interprets one parses it once
into its own frozen view (docs/adr/0003).
"""
