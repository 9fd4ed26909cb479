"""The `kubeedge` command; `keadm` is the same program.

Lives here:      the table of commands (main), one file a command, talking to a running process (control).
Lives elsewhere: what runs (kubeedge.edgecore, kubeedge_cloud.cloudcore).

`kubeedge --help` imports nothing but argparse; a command imports what it needs when it runs.
"""
