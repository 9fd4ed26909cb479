"""KubeEdge, re-imagined: the edge agent, and everything that the edge and the cloud share."""

__version__ = "0.1.0"
