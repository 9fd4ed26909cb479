"""The scheduler: a node for every pod."""
