"""The way out by 32-bit system calls: a filter for 64-bit ones does not see what they ask for.

Call this in a process of its own: the call may be fatal.
"""

import ctypes
import mmap
import os
import struct

from cloister.inside.ways.results import Result, report_code, report_missing, report_reached

# int call(int number, int first, int second, int third), as the 32-bit kernel takes them.
_CODE = bytes.fromhex(
    "53"  # push rbx
    "89f8"  # mov eax, edi
    "89f3"  # mov ebx, esi
    "87d1"  # xchg ecx, edx
    "cd80"  # int 0x80
    "5b"  # pop rbx
    "c3"  # ret
)
_ARGUMENTS_AT = 64
_BELOW_2_GIB = 0x40  # MAP_32BIT: a 32-bit call takes no other addresses
_SOCKETCALL, _OPEN_SOCKET, _SOCKET = 102, 1, 359
_STREAM = 1
_FAMILY = 40  # AF_VSOCK


def open_socket32(*, call: str = "socketcall") -> Result:
    """Open a socket by `int 0x80`, as `socketcall` or as `socket`.

    Any answer but a refusal means that nothing is in its way. Raises OSError without memory that
    is both written and executed, KeyError for another call.
    """
    if os.uname().machine != "x86_64":
        return report_missing("not on this machine")
    access = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    kind = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _BELOW_2_GIB
    memory = mmap.mmap(-1, mmap.PAGESIZE, flags=kind, prot=access)
    wanted = struct.pack("III", _FAMILY, _STREAM, 0)
    memory[: len(_CODE)] = _CODE
    memory[_ARGUMENTS_AT : _ARGUMENTS_AT + len(wanted)] = wanted
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    enter = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_int] * 4)(address)
    arguments = {
        "socketcall": (_SOCKETCALL, _OPEN_SOCKET, address + _ARGUMENTS_AT, 0),
        "socket": (_SOCKET, _FAMILY, _STREAM, 0),
    }[call]
    answer = enter(*arguments)
    if answer >= 0:
        os.close(answer)
        return report_reached("opened")
    return report_code(-answer)
