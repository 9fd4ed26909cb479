"""KubeBus, the network stack: links (l2), packets (l3), connections (l4), HTTP publishing (http); the paper's section 3.1."""
