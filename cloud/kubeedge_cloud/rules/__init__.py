"""Rules from a node to a REST endpoint (rules.kubeedge.io): messages on its broker, and requests of programs to its ServiceBus."""
