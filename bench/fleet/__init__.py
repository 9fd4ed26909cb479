"""One cloud process and thousands of nodes: `make bench NAME=fleet`."""
