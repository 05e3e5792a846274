"""The system calls of a process that computes: memory, clocks, descriptors that it has.

From traces of Python, pdfium and Pillow after everything was imported. Names of other
architectures are in it too: `newfstatat` is `fstatat64` on some.
"""

import fcntl
import os
from collections.abc import Iterator

from cloister.sandbox.seccomp import Rule

_PLAIN = (
    *("read", "pread64", "write", "close", "lseek", "_llseek"),
    *("fstat", "fstat64", "newfstatat", "fstatat64"),
    *("brk", "munmap", "mremap", "madvise"),
    *("futex", "futex_time64", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack"),
    *("restart_syscall", "getrandom", "getpid", "gettid"),
    *("clock_gettime", "clock_gettime64", "gettimeofday", "time"),
    *("recvmsg", "exit", "exit_group"),
)
# Not all of fcntl: it could have signals sent to other processes.
_FCNTL = (fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_DUPFD_CLOEXEC)
_PROT_EXEC = 4
# Of a file that is opened: these flags only, so that it is read and not made.
_READING = os.O_CLOEXEC | os.O_NONBLOCK | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NOCTTY
_LARGEFILE = 0o100000 | 0o400000  # O_LARGEFILE of x86 and of Arm
_ALL_FLAGS = (1 << 32) - 1


def calls(pid: int, *, opens: bool) -> Iterator[Rule]:
    """Yield what process `pid` may call; with `opens`, it may open files to read them."""
    for name in _PLAIN:
        yield Rule(name)
    for name in ("mmap", "mmap2", "mprotect"):  # no new code
        yield Rule(name, argument=2, mask=_PROT_EXEC)
    for command in _FCNTL:
        for name in ("fcntl", "fcntl64"):
            yield Rule(name, argument=1, value=command)
    yield Rule("tgkill", argument=0, value=pid)  # abort()
    if opens:
        yield Rule("getdents64")
        wrong = _ALL_FLAGS & ~(_READING | _LARGEFILE)
        yield Rule("openat", argument=2, mask=wrong)
        yield Rule("open", argument=1, mask=wrong)
