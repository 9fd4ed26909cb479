"""Services at the edge: names (dns) and addresses (nftables), from the store of the node, with or without the cloud."""
