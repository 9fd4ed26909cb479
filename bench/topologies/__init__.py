"""The paper's Figure 7 in namespaces, and its Figure 8 beside ours: `make bench NAME=topologies`."""
