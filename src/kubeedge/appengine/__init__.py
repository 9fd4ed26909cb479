"""AppEngine, the light kubelet: desired pods from the local store become containers, and what they do becomes status.

Lives here:      what a Pod asks for (pod), what to do next (core), how it is reported (status), who does it (engine), the embedded
                 runtime (runtime/), images (images/), volumes, probes, logs, the node's own status (node).
Lives elsewhere: where desired pods come from and reports go to (kubeedge.sync), the API that users see (kubeedge.apiserver).
"""
