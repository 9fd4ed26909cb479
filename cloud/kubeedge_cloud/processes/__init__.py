"""One cloud process among others over the same store: who is alive, and who does what only one may do.

Lives here:      what others see of it (membership), its lease and leadership (module), writes that only a leader may make (fencing),
                 limits of the process itself (tuning).
Lives elsewhere: leases and compares (kubeedge.store.model), the work (edgecontroller, controllers, cloudhub).
"""
