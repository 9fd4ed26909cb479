"""Web services that are published on this node: what `kubeedge publish` changes in the store, and what is there now."""
