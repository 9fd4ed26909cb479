import sys

from kubeedge.cli.main import main

sys.exit(main())
