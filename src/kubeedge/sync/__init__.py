"""Moves the changes of one prefix of a store to a prefix of another: the other half of the paper's EdgeMetadataService (Figure 6).

Lives here:      the messages (codec), the two roles (core), the loops over real stores and a hub channel (driver).
Lives elsewhere: stores (kubeedge.store), the channel (kubeedge.hub).
"""
