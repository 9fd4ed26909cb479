"""Caches of the resources of one cluster: filled by list and watch, ahead of the watch by this process's own writes.

core.py keeps the objects, driver.py lists and watches, client.py is the KubeClient whose writes reach the caches at once.
"""
