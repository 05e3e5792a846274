"""Landlock: no file but those below some folders, no network, no signals to other processes."""

import ctypes
import errno
import os
from collections.abc import Iterable
from pathlib import Path

from cloister.sandbox import kernel

# The same numbers on every architecture.
_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446
_VERSION, _BENEATH = 1, 1
_READ = 1 << 2 | 1 << 3  # files and folders
_FILE_RIGHTS = {1: 1 << 13, 2: 1 << 14, 3: 1 << 15, 5: 1 << 16}  # all rights below, by version
_NETWORK_SINCE, _TCP = 4, 3  # to bind and to connect
_SCOPES_SINCE, _SCOPES = 6, 3  # abstract sockets, and signals


class MissingError(Exception):
    """The kernel has no Landlock."""


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("files", ctypes.c_uint64),
        ("network", ctypes.c_uint64),
        ("scopes", ctypes.c_uint64),
    )


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("access", ctypes.c_uint64), ("folder", ctypes.c_int32))


def version() -> int:
    """Return the version of the kernel's Landlock, 0 for none."""
    try:
        return kernel.syscall(_CREATE, None, 0, _VERSION)
    except OSError as error:
        if error.errno in {errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM}:
            return 0
        raise


def confine(readable: Iterable[Path]) -> int:
    """Confine this process; files below `readable` can be read. Return the version in force.

    The process must have no new privileges. Raises MissingError.
    """
    known = version()
    if known == 0:
        raise MissingError("the kernel has no Landlock")
    rights = max(bits for since, bits in _FILE_RIGHTS.items() if since <= known) - 1
    ruleset = _Ruleset(
        rights, 3 if known >= _NETWORK_SINCE else 0, 3 if known >= _SCOPES_SINCE else 0
    )
    size = 8 * (1 + (known >= _NETWORK_SINCE) + (known >= _SCOPES_SINCE))
    rules = kernel.syscall(_CREATE, ruleset, size, 0)
    try:
        for path in readable:
            _allow(rules, path)
        kernel.syscall(_RESTRICT, rules, 0)
    finally:
        os.close(rules)
    return known


def _allow(rules: int, path: Path) -> None:
    try:
        folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there cannot be read
    try:
        kernel.syscall(_ADD_RULE, rules, _BENEATH, _Beneath(_READ, folder), 0)
    finally:
        os.close(folder)
