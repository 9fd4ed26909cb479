"""A runtime behind a CRI v1 socket: containerd, CRI-O."""
