"""Modules in one process, switched on and off by configuration (the paper's agent; KubeEdge calls it Beehive)."""
