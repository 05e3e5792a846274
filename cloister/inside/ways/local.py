"""Ways out on this machine itself: Unix sockets, devices, the kernel's files and folders."""

import errno
import os
import socket
from collections.abc import Sequence
from pathlib import Path

from cloister.inside.ways.results import (
    PATIENCE_S,
    Result,
    describe,
    report_each,
    report_reached,
)

_DEVICES = (
    *("/dev/net/tun", "/dev/vhost-vsock", "/dev/vhost-net", "/dev/vsock", "/dev/fuse"),
    *("/dev/kmsg", "/dev/mem", "/dev/port", "/dev/kvm"),
)
_KERNEL_FILES = (
    *("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sysrq-trigger"),
    *("/proc/sys/net/ipv4/ip_forward", "/sys/kernel/uevent_helper"),
    *("/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/*/cgroup.procs"),
    *("/sys/fs/cgroup/release_agent", "/sys/fs/cgroup/*/release_agent"),
)
_SOCKET_TYPES = (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM)
_MODES = {"reading": os.O_RDONLY, "writing": os.O_WRONLY}


def connect_abstract(*, name: str, nonce: str = "") -> Result:
    """Connect to an abstract Unix socket, which belongs to a network namespace."""
    return report_reached(_connect(f"\0{name}", nonce))


def open_devices() -> Result:
    """Open devices for reading and for writing, the block devices among them."""
    return _open_each((*_DEVICES, *_list_block_devices()), _MODES)


def open_kernel_files() -> Result:
    """Open files of the kernel for writing, and write nothing."""
    matches = [match for path in _KERNEL_FILES for match in _match(path) or [path]]
    return _open_each(matches, {"writing": os.O_WRONLY})


def read_settings(*, names: Sequence[str]) -> Result:
    """Return settings as they are in the namespaces of whoever asks; raises OSError for no such."""
    paths = {name: Path("/proc/sys") / name.replace(".", "/") for name in names}
    return report_reached(
        "", settings={name: path.read_text().strip() for name, path in paths.items()}
    )


def _connect(address: str, nonce: str) -> str:
    """Connect to a socket of whatever type; raises OSError when nobody accepts."""
    errors: list[OSError] = []
    for kind in _SOCKET_TYPES:
        with socket.socket(socket.AF_UNIX, kind) as connection:
            connection.settimeout(PATIENCE_S)
            try:
                connection.connect(address)
            except OSError as error:
                errors.append(error)
            else:
                return _greet(connection, nonce)
    # That the type is another one says nothing of why the right one failed.
    raise min(errors, key=lambda error: error.errno == errno.EPROTOTYPE)


def _greet(connection: socket.socket, nonce: str) -> str:
    """Send the nonce where somebody accepted, which is a way out even if nothing is read."""
    try:
        connection.sendall(nonce.encode())
    except OSError as error:
        return f"connected; {describe(error)}"
    return "connected"


def _open_each(paths: Sequence[str], modes: dict[str, int]) -> Result:
    successes, failures = [], {}
    for path in paths:
        for mode, flag in modes.items():
            try:
                # Some devices make whoever opens them wait.
                os.close(os.open(path, flag | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC))
            except OSError as error:
                failures[path] = describe(error)
            else:
                successes.append(f"{path} for {mode}")
    return report_each(successes, failures)


def _list_block_devices() -> list[str]:
    disks = _match("/sys/block/*")
    partitions = (str(Path(path).parent) for path in _match("/sys/block/*/*/partition"))
    return [f"/dev/{Path(path).name.replace('!', '/')}" for path in (*disks, *partitions)]


def _match(pattern: str) -> list[str]:
    """Return the paths that an absolute pattern fits."""
    return sorted(str(path) for path in Path("/").glob(pattern.removeprefix("/")))
