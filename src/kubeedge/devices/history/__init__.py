"""What properties were, where it is asked for: files that only grow, bounded by bytes and age."""
