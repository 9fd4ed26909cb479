"""A small MQTT broker (3.1.1 and 5, QoS 0 and 1) for the programs of one machine: codec.py, answers.py, core.py, driver.py."""
