"""`python -m kubeedge`: the same as the command `kubeedge`."""

import os
import sys

if handed := os.environ.pop("KUBEEDGE_AGENT", ""):  # kubeedge.cli.agent_process
    from kubeedge.agent import footprint

    footprint.begin()
    from kubeedge.cli import agent_process

    sys.exit(agent_process.main(handed))

from kubeedge.cli.main import main

sys.exit(main())
