"""What a machine that was started from a card does before it is a node: the file on the boot partition is done, and its outcome written there."""
