"""What a process gives up before it touches what strangers wrote: the kernel's part of it.

All of it works without privileges. What a machine does not have or allow is returned, not passed
over: the caller reports it.
"""

import os
import resource
import signal
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from cloister.sandbox import kernel, landlock, namespaces, seccomp
from cloister.sandbox.calls import calls

# Everything that `isolate` and `confine` may find missing.
PARTS = ("user", "mnt", "pid", "ipc", "net", "uts", "cgroup", "landlock", "seccomp", "nobody")


def isolate() -> dict[str, str]:
    """Become nobody, where this is root, in new namespaces; return what is missing, and why.

    Where `pid` is not missing, the next child of this process is the first one of its namespace.
    """
    if sys.platform != "linux":
        return dict.fromkeys(PARTS, "not a Linux kernel")
    missing: dict[str, str] = {}
    with suppress(seccomp.MissingError):  # `confine` reports it
        seccomp.load()
    if os.geteuid() == 0:
        try:
            namespaces.become_nobody()
        except OSError as error:
            missing["nobody"] = f"not allowed here ({error.strerror})"
    missing |= namespaces.unshare()
    end_with_parent()
    return missing


def hide(visible: Iterable[Path], missing: dict[str, str]) -> None:
    """Leave no files but those in some folders, then give up capabilities; note what is missing."""
    if sys.platform != "linux":
        return
    if "mnt" not in missing:
        try:
            namespaces.hide_files(visible)
        except OSError as error:
            missing["mnt"] = f"not allowed here ({error.strerror})"
    namespaces.drop_capabilities()
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)


def confine(readable: Sequence[Path], *, are_files_hidden: bool) -> dict[str, str]:
    """Allow this process to compute and to read below some folders; return what is missing.

    Where neither a mount namespace nor Landlock keeps it to those, it opens no file at all.
    """
    if sys.platform != "linux":
        return {}
    missing = {}
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    try:
        landlock.confine(readable)
    except landlock.MissingError as error:
        missing["landlock"] = str(error)
    opens = are_files_hidden or not missing
    try:
        seccomp.confine(calls(os.getpid(), opens=opens and bool(readable)))
    except seccomp.MissingError as error:
        missing["seccomp"] = str(error)
    return missing


def limit(name: int, most: int) -> None:
    """Lower a limit of `resource`, in its own unit, for good; a hard limit that is lower stays."""
    _, hard = resource.getrlimit(name)
    lowest = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(name, (lowest, lowest))


def end_with_parent() -> None:
    """Have the kernel kill this process when its parent ends."""
    if sys.platform == "linux":
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)


def hide_memory() -> None:
    """Keep this process's memory and environment from other processes of the same user."""
    if sys.platform == "linux":
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
