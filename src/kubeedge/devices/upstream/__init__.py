"""Messages of the node's programs for the cloud: kept on the disk until it has them."""
