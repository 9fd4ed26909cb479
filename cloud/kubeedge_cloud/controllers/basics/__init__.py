"""What every namespace and every cluster has from the beginning."""
