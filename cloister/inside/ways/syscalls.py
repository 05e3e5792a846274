"""Ways out by single system calls, made past the C library, where only a filter is in between.

Call these in a process of their own: a call may be fatal, and what it changes stays.
"""

import ctypes
import errno
import os
import secrets
import signal
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloister.inside.ways.results import (
    Result,
    describe,
    report_code,
    report_missing,
    report_reached,
)

_NEW_USER, _NEW_NET = 0x10000000, 0x40000000
_NO_USER_SPACES = frozenset({errno.EINVAL, errno.ENOSPC, errno.EUSERS})
_CURRENT_FOLDER = -100
_X32 = 0x40000000
_VSOCK = 40
_FIFO = 0o010600
_FOLDER = "/tmp"  # noqa: S108  # what is made there is removed again


@dataclass(frozen=True)
class _Scene:
    """What calls are about: folder, process, a namespace's file, a name that nothing has yet."""

    folder: bytes
    pid: int
    path: str
    name: bytes


@dataclass(frozen=True)
class _Call:
    """A system call: its numbers on x86_64 and aarch64 (-1: none), its arguments, what undoes it.

    `refusals` are errors by which the kernel refuses this one, besides the usual ones. One that
    `forks` returns in two processes.
    """

    x86_64: int
    aarch64: int
    arguments: Callable[[_Scene], tuple[Any, ...]]
    undo: Callable[[_Scene], object] = lambda _: None
    refusals: frozenset[int] = frozenset()
    forks: bool = False


class _Vector(ctypes.Structure):
    """A piece of memory: struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def _fill(start: bytes, size: int) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(start, size)


def _open_unnamed(scene: _Scene) -> bytes:
    """Return the path of a new file that no folder lists, and that ends with this process."""
    return f"/proc/self/fd/{os.open(scene.folder, os.O_TMPFILE | os.O_RDWR)}".encode()


def _remove(scene: _Scene) -> None:
    Path(os.fsdecode(scene.name)).unlink()


def _unmount(scene: _Scene) -> None:
    if _LIBC.umount2(scene.folder, 2):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long
# A forked process has it where its parent has it.
_MEMORY = ctypes.create_string_buffer(8)
_VECTOR = _Vector(ctypes.addressof(_MEMORY), len(_MEMORY))
_MAP = struct.pack("IIII", 2, 4, 4, 1)  # an array of one entry
_PERF = struct.pack("IIQQQQQ", 1, 64, 0, 0, 0, 0, 0b1100001)  # a clock, disabled, no kernel
_HANDLE = struct.pack("IiQ", 8, 1, 2)  # of a file system's root
_CLONE = struct.pack("8Q", _NEW_USER, 0, 0, 0, signal.SIGCHLD, 0, 0, 0)
_CALLS = {
    "add_key": _Call(248, 217, lambda _: (b"user", b"cloister", b"x", 1, -2)),
    "bpf": _Call(321, 280, lambda _: (0, _fill(_MAP, 16), 16)),
    "chroot": _Call(161, 51, lambda _: (b"/",)),
    "clone3_user": _Call(
        435, 435, lambda _: (_fill(_CLONE, 64), 64), refusals=_NO_USER_SPACES, forks=True
    ),
    "clone_user": _Call(
        56,
        220,
        lambda _: (_NEW_USER | signal.SIGCHLD, 0, 0, 0, 0),
        refusals=_NO_USER_SPACES,
        forks=True,
    ),
    "fsopen": _Call(430, 430, lambda _: (b"tmpfs", 0)),
    "init_module": _Call(175, 105, lambda _: (0, 0, b"")),
    "io_uring_setup": _Call(425, 425, lambda _: (1, _fill(b"", 120))),
    "kcmp": _Call(312, 272, lambda _: (os.getpid(), os.getpid(), 0, 0, 0)),
    "keyctl": _Call(250, 219, lambda _: (0, -3, 0)),
    "mknod": _Call(133, -1, lambda s: (s.name, _FIFO, 0), _remove),
    "mknodat": _Call(259, 33, lambda s: (_CURRENT_FOLDER, s.name, _FIFO, 0), _remove),
    "mount": _Call(165, 40, lambda s: (b"none", s.folder, b"tmpfs", 0, 0), _unmount),
    "open_by_handle_at": _Call(
        304, 265, lambda _: (os.open("/", os.O_RDONLY), _fill(_HANDLE, 16), 0)
    ),
    "perf_event_open": _Call(298, 241, lambda _: (_fill(_PERF, 64), 0, -1, -1, 0)),
    "personality": _Call(135, 92, lambda _: (0x0440000,)),
    "process_vm_readv": _Call(
        310, 270, lambda s: (s.pid, ctypes.byref(_VECTOR), 1, ctypes.byref(_VECTOR), 1, 0)
    ),
    "ptrace": _Call(101, 117, lambda _: (0, 0, 0, 0)),
    "setns": _Call(308, 268, lambda s: (os.open(s.path, os.O_RDONLY), _NEW_NET)),
    "setxattr": _Call(188, 5, lambda s: (_open_unnamed(s), b"user.cloister", b"x", 1, 0)),
    "socket": _Call(41, 198, lambda _: (_VSOCK, 1, 0)),
    "symlink": _Call(88, -1, lambda s: (b"/", s.name), _remove),
    "symlinkat": _Call(266, 36, lambda s: (b"/", _CURRENT_FOLDER, s.name), _remove),
    "unshare_net": _Call(272, 97, lambda _: (_NEW_NET,)),
    "unshare_user": _Call(272, 97, lambda _: (_NEW_USER,), refusals=_NO_USER_SPACES),
    "userfaultfd": _Call(323, 282, lambda _: (1,)),
}


def try_syscall(
    *,
    name: str,
    path: str = "/proc/1/ns/net",
    x32: bool = False,
) -> Result:
    """Make one system call; any answer but a refusal means that nothing is in its way.

    `x32` makes it by the number of the other ABI of x86_64. Raises ValueError for an unknown name.
    """
    if name not in _CALLS:
        raise ValueError(f"no system call `{name}`; there are {', '.join(_CALLS)}")
    call, machine = _CALLS[name], os.uname().machine
    number = {"x86_64": call.x86_64, "aarch64": call.aarch64}.get(machine, -1)
    if number < 0 or (x32 and machine != "x86_64"):
        return report_missing("not on this machine")
    fresh = f"{_FOLDER}/.cloister-{secrets.token_hex(4)}".encode()
    scene = _Scene(_FOLDER.encode(), os.getppid(), path, fresh)
    result, code = _make(call, number | (_X32 if x32 else 0), scene)
    if result < 0:
        return report_code(code, call.refusals)
    try:
        call.undo(scene)
    except OSError as error:
        return report_reached(f"returned {result}; could not be undone: {describe(error)}")
    return report_reached(f"returned {result}")


def _make(call: _Call, number: int, scene: _Scene) -> tuple[int, int]:
    """Return the result of a call, and the error number that counts when it is negative."""
    arguments = call.arguments(scene)
    # A plain number would be passed with 32 bits.
    wide = (ctypes.c_long(one) if isinstance(one, int) else one for one in arguments)
    result: int = _LIBC.syscall(number, *wide)
    code = ctypes.get_errno()
    if call.forks and result == 0:
        os._exit(0)
    if call.forks and result > 0:
        os.waitpid(result, 0)
    return result, code
