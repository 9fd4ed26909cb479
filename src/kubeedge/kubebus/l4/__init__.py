"""KubeBus L4: reliable connections between nodes, addressed by node number and port, over segments that may be lost.

Lives here:      the segment's layout (segment), one connection (core), all connections of a node (endpoint), asyncio streams (driver).
Lives elsewhere: which node a number is, and how a segment gets there (l2, l3).
"""
