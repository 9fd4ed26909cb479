"""Small tools that could each be a library: nothing in here knows what KubeEdge is."""
