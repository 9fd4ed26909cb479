"""Methods of this node's devices: calls of the cloud and of programs, which mappers perform."""
