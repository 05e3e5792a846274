"""A renderer's first process: it loads everything, gives up what it can, and supervises.

Arguments: the descriptor of a socket to the client, the memory in MiB, the seconds a page may take.
"""

import os
import resource
import signal
import socket
import sys
from pathlib import Path

from cloister import sandbox
from cloister.rendering import jobs
from cloister.rendering.supervisor import Supervisor
from cloister.rendering.warmup import load_everything


def main() -> None:
    """Serve until the client ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the client's business
    number, memory_mib, page_timeout_s = sys.argv[1:]
    os.environ.clear()
    sandbox.end_with_parent()
    load_everything()
    missing = sandbox.isolate()
    if "pid" not in missing and (first := os.fork()) != 0:
        os.close(int(number))
        # The first process of the namespace: all others in it end with it.
        _, status = os.waitpid(first, 0)
        sys.exit(os.waitstatus_to_exitcode(status) & 0x7F)
    sandbox.end_with_parent()
    space = _space(int(memory_mib) << 20)
    sandbox.hide(jobs.FONTS, missing)
    control = socket.socket(fileno=int(number))
    supervisor = Supervisor(control, float(page_timeout_s), lambda: jobs.confine(space, missing))
    os.dup2(1, 2)  # up to here a traceback is worth seeing
    supervisor.run()


def _space(memory: int) -> int:
    """Return the address space of an idle process and some memory, in bytes; 0 for no limit."""
    if sys.platform != "linux":
        return 0  # other kernels do not keep to RLIMIT_AS
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize() + memory


if __name__ == "__main__":
    main()
