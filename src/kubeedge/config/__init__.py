"""Settings: frozen dataclasses for kubeedge.yaml, and the loader that reports what is wrong with a file and where.

Lives here:      EdgeConfig (edge), CloudConfig (cloud), NodeRecord as join wrote it (node), reading and checking (load).
Lives elsewhere: what the settings mean to a component (its own settings dataclass).
"""
