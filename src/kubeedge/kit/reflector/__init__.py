"""List, then watch: the loop of every local view of a collection, wherever the collection is kept.

core.py decides what comes next; driver.py does it. A view of the store is kubeedge.store.reflector, one of a Kubernetes API is
kubeedge_cloud.controllers.informer.
"""
