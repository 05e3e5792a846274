"""Calls of the kernel that Python 3.11 has no functions for."""

import ctypes
import os

_LIBC = ctypes.CDLL(None, use_errno=True)

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38


def call(name: str, *arguments: int | bytes | ctypes.Array[ctypes.c_uint32] | None) -> int:
    """Call a function of the C library. Raises OSError where it returns -1."""
    result = getattr(_LIBC, name)(*(_wide(argument) for argument in arguments))
    return _checked(result)


def syscall(number: int, *arguments: int | bytes | ctypes.Structure | None) -> int:
    """Make a system call that the C library has no function for. Raises OSError."""
    wide = (
        ctypes.byref(argument) if isinstance(argument, ctypes.Structure) else _wide(argument)
        for argument in arguments
    )
    _LIBC.syscall.restype = ctypes.c_long
    return _checked(_LIBC.syscall(ctypes.c_long(number), *wide))


def words(*values: int) -> ctypes.Array[ctypes.c_uint32]:
    """Return 32-bit words, for a structure that is made of nothing else."""
    return (ctypes.c_uint32 * len(values))(*values)


def prctl(option: int, value: int) -> None:
    """Set an attribute of this process. Raises OSError."""
    call("prctl", option, value, 0, 0, 0)


def _wide(argument: object) -> object:
    # An int would be passed as 32 bits, and what is above them is whatever the register held.
    return ctypes.c_long(argument) if isinstance(argument, int) else argument


def _checked(result: int) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
