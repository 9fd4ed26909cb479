"""Values of devices on their way to where `pushMethod` says, over a queue on the disk."""
