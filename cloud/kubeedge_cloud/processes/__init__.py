"""One cloud process among others over the same store: who is alive, and who does what only one may do.

Lives here:      the lease of a process, leadership (member), writes that only a leader may make (fenced).
Lives elsewhere: leases and compares (kubeedge.store.model), the work (edgecontroller, controllers, cloudhub).
"""
