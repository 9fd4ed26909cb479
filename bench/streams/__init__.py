"""exec and cp through the API, KubeBus and the node."""
