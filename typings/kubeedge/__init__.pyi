"""See src/kubeedge; here only so that _fastpath is found in a package."""
