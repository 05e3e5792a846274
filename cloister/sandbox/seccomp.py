"""An allow-list of system calls, compiled and loaded by libseccomp."""

import ctypes
import errno
import functools
import os
from collections.abc import Iterable
from dataclasses import dataclass

_LIBRARY = "libseccomp.so.2"
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_EQUAL, _MASKED_EQUAL = 4, 7
_WHOLE = (1 << 64) - 1


class MissingError(Exception):
    """There is no libseccomp here, or the kernel has no filters."""


@dataclass(frozen=True)
class Rule:
    """A system call that is allowed; with `argument` only where its bits in `mask` are `value`."""

    name: str
    argument: int | None = None
    mask: int = _WHOLE
    value: int = 0


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


def confine(rules: Iterable[Rule]) -> None:
    """Allow this process nothing but the rules: any other call fails with EPERM.

    Calls of another architecture kill the process. Names that the architecture does not have are
    left out. Raises MissingError, and OSError where the filter is refused.
    """
    library = load()
    context = library.seccomp_init(_ERRNO | errno.EPERM)
    if not context:
        raise MissingError("the kernel has no seccomp filters")
    try:
        for rule in rules:
            _add(library, context, rule)
        _check(library.seccomp_load(context), "seccomp_load")
    finally:
        library.seccomp_release(context)


def _add(library: ctypes.CDLL, context: int, rule: Rule) -> None:
    number = library.seccomp_syscall_resolve_name(rule.name.encode())
    if number < 0:
        return
    if rule.argument is None:
        result = library.seccomp_rule_add_array(context, _ALLOW, number, 0, None)
    else:
        masked = rule.mask != _WHOLE
        comparison = _Comparison(
            rule.argument,
            _MASKED_EQUAL if masked else _EQUAL,
            rule.mask if masked else rule.value,
            rule.value if masked else 0,
        )
        result = library.seccomp_rule_add_array(
            context, _ALLOW, number, 1, ctypes.byref(comparison)
        )
    _check(result, rule.name)


def _check(result: int, what: str) -> None:
    if result == -errno.ENOSYS or (what == "seccomp_load" and result == -errno.EINVAL):
        raise MissingError("the kernel has no seccomp filters")
    if result < 0:
        raise OSError(-result, f"{what}: {os.strerror(-result)}")


@functools.cache
def load() -> ctypes.CDLL:
    """Load libseccomp, before its file is out of reach. Raises MissingError."""
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise MissingError(f"{_LIBRARY} is not installed") from error
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_load.argtypes = [ctypes.c_void_p]
    library.seccomp_release.argtypes = [ctypes.c_void_p]
    library.seccomp_release.restype = None
    library.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
    library.seccomp_rule_add_array.argtypes = [
        *(ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint),
        ctypes.c_void_p,
    ]
    return library
