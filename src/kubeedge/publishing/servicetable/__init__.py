"""The web services of this node: core.py makes the table of what is in the store, module.py keeps it up to date."""
