"""The store contract (kubeedge.store.model) over etcd: for a cloud side of more than one machine.

Lives here:      connections to the members (members), one feed of all changes and what it remembers (feed), the store (store).
Lives elsewhere: what a store promises (kubeedge.store.model), watches on top of the feed (kubeedge.store.watch).
"""
