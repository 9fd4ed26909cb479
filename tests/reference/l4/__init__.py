"""L4: the segment's layout (segment), one connection (core), all connections of a node (endpoint), who may hold how much (budget)."""
