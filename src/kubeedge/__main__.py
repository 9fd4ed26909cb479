"""`python -m kubeedge`: the same as the command `kubeedge`."""

import sys

from kubeedge.cli.main import main

sys.exit(main())
