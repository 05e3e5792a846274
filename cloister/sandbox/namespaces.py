"""Namespaces of a process's own: no other processes, files, network or shared memory in them."""

import os
from collections.abc import Iterable
from pathlib import Path

from cloister.sandbox import kernel

_USER = 0x10000000
# CLONE_* by the names that /proc/PID/ns has. The next child is the first process of `pid`.
_OTHERS = {
    "mnt": 0x00020000,
    "pid": 0x20000000,
    "ipc": 0x08000000,
    "net": 0x40000000,
    "uts": 0x04000000,
    "cgroup": 0x02000000,
}
NOBODY = 65534
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT, _BIND = 1, 2, 4, 8, 32, 4096
_REC, _PRIVATE, _RELATIME = 16384, 1 << 18, 1 << 21
_DETACH = 2
# What the kernel does not let a bind mount lose; ST_RELATIME of statvfs has another number.
_ATIME, _ST_RELATIME = 1024 | 2048, 4096
_ROOT = "/tmp"  # noqa: S108  # any folder that every machine has: the new root is mounted on it
_CAPABILITIES = 0x20080522


def unshare() -> dict[str, str]:
    """Enter new namespaces, as `nobody` in them; return those that are not allowed, and why."""
    user, group = os.geteuid(), os.getegid()
    try:
        kernel.call("unshare", _USER)
        for name, content in (
            ("setgroups", "deny"),
            ("uid_map", f"{NOBODY} {user} 1"),
            ("gid_map", f"{NOBODY} {group} 1"),
        ):
            Path("/proc/self", name).write_text(content, encoding="ascii")
    except OSError as error:
        return dict.fromkeys(("user", *_OTHERS), _reason(error))
    missing = {}
    for name, flag in _OTHERS.items():
        try:
            kernel.call("unshare", flag)
        except OSError as error:
            missing[name] = _reason(error)
    return missing


def hide_files(visible: Iterable[Path]) -> None:
    """Leave this process, in a mount namespace of its own, no files but those in some folders.

    Those are read-only. Raises OSError.
    """
    kernel.call("mount", None, b"/", None, _REC | _PRIVATE, None)
    quiet = _NOSUID | _NODEV | _NOEXEC
    kernel.call("mount", b"tmpfs", _ROOT.encode(), b"tmpfs", quiet, b"size=64k,mode=755")
    for folder in visible:
        if folder.is_dir():
            place = Path(f"{_ROOT}{folder}")
            place.mkdir(parents=True, exist_ok=True)
            kernel.call("mount", os.fsencode(folder), os.fsencode(place), None, _BIND | _REC, None)
            found = os.statvfs(place).f_flag
            atime = found & _ATIME | (_RELATIME if found & _ST_RELATIME else 0)
            flags = _REMOUNT | _BIND | _RDONLY | quiet | atime
            kernel.call("mount", None, os.fsencode(place), None, flags, None)
    kernel.call("mount", None, _ROOT.encode(), None, _REMOUNT | _BIND | _RDONLY | quiet, None)
    os.chdir(_ROOT)
    kernel.call("pivot_root", b".", b".")
    kernel.call("umount2", b".", _DETACH)
    os.chdir("/")


def become_nobody() -> None:
    """Give up root's user, groups and capabilities. Raises OSError where that is not allowed."""
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)  # else /proc/self would be root's


def drop_capabilities() -> None:
    """Give up all capabilities, those in an own user namespace too."""
    array = kernel.words(_CAPABILITIES, 0), kernel.words(*[0] * 6)
    kernel.call("capset", *array)


def _reason(error: OSError) -> str:
    return f"not allowed here ({error.strerror})"
