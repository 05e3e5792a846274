"""A process that is still there after SIGKILL, as one that waits in a driver: no root needed.

A debugger that holds one of its threads has to take note of that thread's end, and so long the
process is not over.
"""

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# What is held: a second thread, whose number it prints. It does not end by SIGTERM.
PROGRAM = """
import signal, threading, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
thread = threading.Thread(target=threading.Event().wait)
thread.start()
print(thread.native_id, flush=True)
"""
_LIBC = ctypes.CDLL(None, use_errno=True)
_SEIZE, _CLONED = 0x4206, 0x40000000  # PTRACE_SEIZE and __WALL of the kernel's headers


@contextmanager
def held(thread: int) -> Iterator[None]:
    """Keep a process alive by one of its threads, not its first; it is a descendant of this one."""
    if _LIBC.ptrace(_SEIZE, thread, None, None) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    try:
        yield
    finally:
        os.waitpid(thread, _CLONED)


@contextmanager
def process() -> Iterator[int]:
    """Give a process that leads a group, and whose kill ends it only after this."""
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as made:
        assert made.stdout
        with held(int(made.stdout.readline())):
            try:
                yield made.pid
            finally:
                made.kill()
