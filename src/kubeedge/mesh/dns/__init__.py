"""The DNS server of a node: names of the cluster from the node's store, everything else from the machine's resolvers."""
