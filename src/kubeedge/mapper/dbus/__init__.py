"""As much of D-Bus as a mapper needs to use a service of the machine: calls and signals, no service of our own."""
