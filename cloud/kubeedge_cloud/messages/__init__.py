"""Messages that programs of nodes send to the cloud: taken once, in order, into a bounded log for each node."""
