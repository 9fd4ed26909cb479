"""KubeBus L4: reliable connections between nodes, addressed by node number and port, over segments that may be lost.

Lives here:      asyncio streams (driver), the states of a connection (state).
Lives elsewhere: the protocol (kubeedge._fastpath), its reference implementation (tests/reference/l4), which node a number is, and how a segment gets there (l2, l3).
"""
