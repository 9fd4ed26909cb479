"""The ServiceBus: programs of this node ask for REST endpoints that rules of the cloud name, and need no way to them."""
