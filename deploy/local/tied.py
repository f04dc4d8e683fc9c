"""Becomes the given command, which the kernel ends when the one who asked for it dies.

`python tied.py PID COMMAND…`: after a SIGKILL nobody is left to clean up, so the kernel has to.  It watches the
*thread* that started the child, which is why `Child` starts all of them from one thread that lives as long as they do.
A program of its own, as what runs between fork and exec in a process with threads may deadlock.
Not on Linux: nothing watches; the next start in the same folder ends what was left (`children.py`).
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the kernel watched
            sys.exit("the program that wanted this one is gone")
    os.execv(command[0], command)  # noqa: S606 - the command is ours, and there is no shell wanted


if __name__ == "__main__":
    main()
