"""An unmodified cluster with thousands of edge nodes: `make bench NAME=kubernetes`."""
