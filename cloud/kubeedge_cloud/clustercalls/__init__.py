"""What clusters of users' own, and programs that use them, ask this process: devices in another version, calls of rules and of methods of devices."""
