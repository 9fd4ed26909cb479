"""python -m cross.enter ROOT COMMAND...: mounts /proc and /dev below ROOT, then becomes COMMAND. In a mount namespace of its own, whose end
takes the mounts away."""

from __future__ import annotations

import os
import subprocess
import sys

root, *command = sys.argv[1:]
subprocess.run(["mount", "--make-rprivate", "/"], check=True)
subprocess.run(["mount", "-t", "proc", "proc", f"{root}/proc"], check=True)
subprocess.run(["mount", "--bind", "/dev", f"{root}/dev"], check=True)
os.execvp(command[0], command)
