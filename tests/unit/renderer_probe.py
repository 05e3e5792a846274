# ruff: noqa: PLW0108, PTH116, PTH208, S108, S606 -- attempts name each call and path
"""Runs where a document would take a renderer, or an image one of the embedded engine's, over.

It is the same process after the same preparation. It tries what a document would try and reports
what worked. Arguments: which of the two, a folder of the user's, the client's process number, the
parts of the sandbox to leave out, then the worker's own.
"""

import ctypes
import fcntl
import json
import mmap
import os
import resource
import signal
import socket
import stat
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cloister.rendering import jobs, worker
from cloister.sandbox import landlock, namespaces, seccomp

FONTS = Path("/usr/share/fonts")
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long
LIBC.mmap.restype = ctypes.c_void_p
_NAMES = ctypes.CDLL("libseccomp.so.2")
CALLS = {
    name: _NAMES.seccomp_syscall_resolve_name(name.encode())
    for name in (
        *("ptrace", "process_vm_readv", "process_vm_writev", "pidfd_open", "pidfd_getfd"),
        *("keyctl", "add_key", "io_uring_setup", "bpf", "perf_event_open", "userfaultfd"),
        *("kexec_load", "init_module", "execveat", "clone", "clone3", "vfork", "setns", "unshare"),
        *("mount", "pivot_root", "chroot", "swapon", "reboot", "shmget", "msgget", "semget"),
        *("memfd_create", "memfd_secret", "inotify_init1", "fanotify_init", "personality"),
        *("prctl", "setrlimit", "sched_setscheduler", "setpriority", "open_by_handle_at"),
        *("socket", "socketpair", "mq_open", "syslog", "sethostname", "settimeofday", "quotactl"),
        *("landlock_create_ruleset", "seccomp", "ioctl", "pipe2", "timer_create", "acct"),
        *("rt_sigqueueinfo", "tkill", "kill", "modify_ldt", "iopl", "fsopen", "name_to_handle_at"),
        *("move_pages", "migrate_pages", "kcmp", "uselib", "vmsplice", "splice", "sendmsg"),
    )
}


def call(name: str, *arguments: Any) -> int:
    if CALLS[name] < 0:
        raise OSError(38, f"no {name} on this architecture")
    wide = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    result = int(LIBC.syscall(ctypes.c_long(CALLS[name]), *wide))
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def read(path: str) -> Callable[[], object]:
    return lambda: Path(path).read_bytes()[:100]


def connect(family: int, address: Any, kind: int = socket.SOCK_STREAM) -> Callable[[], object]:
    return lambda: socket.socket(family, kind).connect(address)


def executable_memory() -> None:
    result = LIBC.mmap(None, ctypes.c_size_t(4096), 7, 0x22, -1, ctypes.c_long(0))
    if result in {None, ctypes.c_void_p(-1).value}:
        raise OSError(ctypes.get_errno(), "no executable memory")


def much_memory() -> None:
    mmap.mmap(-1, 64 << 30)


def fork() -> None:
    if os.fork() == 0:
        os.setsid()
        time.sleep(600)


def descriptors() -> list[str]:
    """Try all that it was given; return what is neither the document nor a pipe's end."""
    found = []
    for number in range(64):
        try:
            mode = os.fstat(number).st_mode
        except OSError:
            continue
        found.append(f"{number}:{mode >> 12:o}")
    return found


def fill_disk() -> None:
    for number in range(64):
        if number not in SPARED:
            try:
                os.ftruncate(number, 1 << 40)
            except OSError:
                continue
            raise RuntimeError("a file was made larger")
    raise OSError(1, "nothing could be made larger")


SPARED: set[int] = set()


def write_out(file: int) -> Callable[[], object]:
    """Write to a terminal's descriptor; what leads nowhere is no way out."""

    def attempt() -> None:
        os.write(file, b"\x1b]0;taken over\x07")
        if os.fstat(file).st_rdev == os.makedev(1, 3):
            raise OSError(1, "it is /dev/null")
        if stat.S_ISFIFO(os.fstat(file).st_mode):
            raise OSError(1, "it is a pipe to its supervisor")

    return attempt


def attempts(home: Path, client: int) -> dict[str, Callable[[], object]]:
    address = ctypes.create_string_buffer(64)
    vector = (ctypes.c_ulong * 2)(ctypes.addressof(address), 8)
    own = os.getpid()
    return {
        # Other processes.
        "read the client's environment": read(f"/proc/{client}/environ"),
        "read the client's memory": read(f"/proc/{client}/mem"),
        "list the client's descriptors": lambda: os.listdir(f"/proc/{client}/fd"),
        "list processes": lambda: os.listdir("/proc"),
        "read its own environment by /proc": read("/proc/self/environ"),
        "attach to the client (ptrace)": lambda: call("ptrace", 16, client, 0, 0),
        "attach to its supervisor (ptrace)": lambda: call("ptrace", 16, os.getppid(), 0, 0),
        "be traced (ptrace)": lambda: call("ptrace", 0, 0, 0, 0),
        "read the client's memory (process_vm_readv)": lambda: call(
            "process_vm_readv", client, vector, 1, vector, 1, 0
        ),
        "write the client's memory": lambda: call(
            "process_vm_writev", client, vector, 1, vector, 1, 0
        ),
        "open the client (pidfd)": lambda: call("pidfd_open", client, 0),
        "take the client's descriptor": lambda: call("pidfd_getfd", 5, 0, 0),
        "compare with the client (kcmp)": lambda: call("kcmp", own, client, 0, 0, 0),
        "signal the client": lambda: os.kill(client, 0),
        "signal its supervisor": lambda: os.kill(os.getppid(), signal.SIGSTOP),
        "signal all": lambda: os.kill(-1, signal.SIGCONT),
        "signal its group": lambda: os.killpg(0, signal.SIGCONT),
        "signal a thread of the client": lambda: call("tkill", client, 0),
        "queue a signal": lambda: call("rt_sigqueueinfo", client, 10, address),
        "signal itself by kill": lambda: os.kill(own, 0),
        # Files.
        "read ~/.ssh/id": lambda: (home / ".ssh/id").read_text(),
        "list the home": lambda: os.listdir(home),
        "stat the home": lambda: os.stat(home),
        "read /etc/passwd": read("/etc/passwd"),
        "read /etc/shadow": read("/etc/shadow"),
        "list /": lambda: [*os.listdir("/"), *os.listdir("/etc")],
        "list /tmp": lambda: os.listdir("/tmp"),
        "read its own program": read(str(Path(jobs.__file__))),
        "write a user's file": lambda: (home / "notes.txt").write_text("taken over"),
        "append to a user's file": lambda: (home / "notes.txt").open("a").write("x"),
        "delete a user's file": lambda: (home / "notes.txt").unlink(),
        "rename a user's file": lambda: (home / "notes.txt").rename(home / ".bashrc"),
        "make a file": lambda: (home / "new").touch(),
        "make a file in /tmp": lambda: Path("/tmp/cloister-probe").touch(),
        "make a file in /dev/shm": lambda: Path("/dev/shm/cloister-probe").touch(),
        "make a folder": lambda: (home / "folder").mkdir(),
        "make a link": lambda: (home / "link").symlink_to("/etc/passwd"),
        "make a hard link": lambda: (home / "hard").hardlink_to(home / "notes.txt"),
        "make a pipe in the file system": lambda: os.mkfifo(home / "fifo"),
        "change a mode": lambda: (home / "notes.txt").chmod(0o7777),
        "change an owner": lambda: os.chown(home / "notes.txt", 1, 1),
        "truncate a user's file": lambda: os.truncate(home / "notes.txt", 0),
        "set times": lambda: os.utime(home / "notes.txt"),
        "read extended attributes": lambda: os.getxattr(home / "notes.txt", "user.x"),
        "change its folder": lambda: os.chdir(home),
        "change its root": lambda: os.chroot("/"),
        "open by handle": lambda: call("open_by_handle_at", 3, address, 0),
        "watch files (inotify)": lambda: call("inotify_init1", 0),
        "watch files (fanotify)": lambda: call("fanotify_init", 0, 0),
        "open /dev/null": read("/dev/null"),
        "open /dev/tty": lambda: os.open("/dev/tty", os.O_RDWR),
        "open /dev/mem": read("/dev/mem"),
        "open /dev/kvm": lambda: os.open("/dev/kvm", os.O_RDWR),
        "open a device of the machine": lambda: os.open("/dev/zero", os.O_RDONLY),
        "make files larger": fill_disk,
        "make a file without a name": lambda: os.open("/tmp", os.O_TMPFILE | os.O_RDWR),
        # Ways out.
        "connect by TCP": connect(socket.AF_INET, ("127.0.0.1", 9)),
        "connect by TCP over IPv6": connect(socket.AF_INET6, ("::1", 9)),
        "listen": lambda: socket.socket(socket.AF_INET).listen(),
        "send by UDP": lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"", ("1.1.1.1", 53)),
        "connect to a Unix socket": connect(socket.AF_UNIX, str(home / "socket")),
        "connect to an abstract socket": connect(socket.AF_UNIX, f"\0cloister-probe-{client}"),
        "a raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1),
        "a packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3),
        "a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0),
        "a vsock socket": connect(socket.AF_VSOCK, (2, 1)),
        "a socket of the kernel's ciphers": lambda: socket.socket(38, socket.SOCK_SEQPACKET),
        "a Bluetooth socket": lambda: socket.socket(31, socket.SOCK_RAW, 1),
        "a CAN socket": lambda: socket.socket(29, socket.SOCK_RAW, 1),
        "a pair of sockets": socket.socketpair,
        "send on its own socket with a descriptor": lambda: call("sendmsg", CHANNEL[0], address, 0),
        "a pipe": os.pipe,
        "write to the terminal (stdout)": write_out(1),
        "write to the terminal (stderr)": write_out(2),
        "write to the terminal (stdin)": write_out(0),
        "type into the terminal (TIOCSTI)": lambda: fcntl.ioctl(0, termios.TIOCSTI, b"x"),
        "take a terminal": lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        # Processes and programs.
        "exec /bin/sh": lambda: os.execv("/bin/sh", ["sh", "-c", "exit 0"]),
        "exec from memory": lambda: call("execveat", 1, b"", None, None, 0x1000),
        "memory as a file (memfd)": lambda: os.memfd_create("x"),
        "secret memory": lambda: call("memfd_secret", 0),
        "fork": fork,
        "clone": lambda: call("clone", 17, 0, 0, 0, 0),
        "clone3": lambda: call("clone3", address, 64),
        "vfork": lambda: call("vfork"),
        "start a thread": lambda: call("clone", 0x50F00, 0, 0, 0, 0),
        "leave its session": os.setsid,
        "executable memory": executable_memory,
        "64 GiB of memory": much_memory,
        "change the processor's tables": lambda: call("modify_ldt", 0, address, 8),
        # The kernel.
        "a user namespace": lambda: call("unshare", 0x10000000),
        "a network namespace": lambda: call("unshare", 0x40000000),
        "enter a namespace": lambda: call("setns", 3, 0),
        "mount": lambda: call("mount", b"none", b"/tmp", b"tmpfs", 0, None),
        "mount by the new calls": lambda: call("fsopen", b"tmpfs", 0),
        "change the root mount": lambda: call("pivot_root", b".", b"."),
        "keys: read": lambda: call("keyctl", 0, -3, 0, 0, 0),
        "keys: add": lambda: call("add_key", b"user", b"x", b"y", 1, -3),
        "io_uring": lambda: call("io_uring_setup", 4, address),
        "bpf": lambda: call("bpf", 0, address, 48),
        "perf": lambda: call("perf_event_open", address, 0, -1, -1, 0),
        "userfaultfd": lambda: call("userfaultfd", 1),
        "shared memory (System V)": lambda: call("shmget", 0, 4096, 0o1600),
        "messages (System V)": lambda: call("msgget", 0, 0o1600),
        "semaphores (System V)": lambda: call("semget", 0, 1, 0o1600),
        "messages (POSIX)": lambda: call("mq_open", b"x", 0o102, 0o600, None),
        "kexec": lambda: call("kexec_load", 0, 0, 0, 0),
        "load a module": lambda: call("init_module", address, 8, b""),
        "read the kernel's log": lambda: call("syslog", 3, address, 60),
        "reboot": lambda: call("reboot", 1, 2, 3, 0),
        "change the machine's name": lambda: call("sethostname", b"x", 1),
        "change the clock": lambda: call("settimeofday", address, None),
        "move pages of the client": lambda: call("move_pages", client, 0, None, None, None, 0),
        "splice": lambda: call("splice", 0, None, 1, None, 1, 0),
        # Its own limits.
        "raise a limit": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
        "lower a limit": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16)),
        "make itself dumpable": lambda: call("prctl", 4, 1, 0, 0, 0),
        "outlive its parent (prctl)": lambda: call("prctl", 1, 0, 0, 0, 0),
        "change its personality": lambda: call("personality", 0x0040000),
        "another filter": lambda: call("seccomp", 0, 0, None),
        "another user": lambda: os.setuid(0),
        "another group": lambda: os.setgroups([0]),
        "a higher priority": lambda: os.nice(-5),
        "real-time": lambda: call("sched_setscheduler", 0, 1, address),
        "a timer": lambda: signal.setitimer(signal.ITIMER_REAL, 100),
        "signals by a descriptor (F_SETOWN)": lambda: fcntl.fcntl(0, fcntl.F_SETOWN, client),
        "lock the document": lambda: fcntl.flock(DOCUMENT[0], fcntl.LOCK_EX),
        "lease the document": lambda: fcntl.fcntl(DOCUMENT[0], fcntl.F_SETLEASE, fcntl.F_RDLCK),
        # What it may do.
        "read the document": lambda: os.pread(DOCUMENT[0], 10, 0),
        "write the document": lambda: os.write(DOCUMENT[0], b"taken over"),
        "read fonts of the system": lambda: next(FONTS.rglob("*.ttf")).read_bytes(),
        "make a file among the fonts": lambda: (FONTS / "x").touch(),
        "allocate memory within its limit": lambda: len(bytearray(64 << 20)),
        "compute until its time is over": time.process_time,
        "ask for the time": time.time,
        "print a line, which is shown when it crashes": lambda: print_out(1),
        "print more than 4 KiB": lambda: print_out(5 << 10),
        "ignore signals": lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
        "answer what it likes about its document": lambda: os.fstat(ANSWERS[0]),
    }


DOCUMENT, ANSWERS, CHANNEL = [0], [0], [0]
HOME, CLIENT = [""], [""]


def print_out(size: int) -> None:
    if os.fstat(2).st_rdev == os.makedev(1, 3):
        raise OSError(1, "it is /dev/null")
    for _ in range(size):
        os.write(2, b"x")


def print_much() -> None:
    """Print 2 GiB, and end as a program with a mistake does."""
    os.write(2, b"\x1b]0;taken over\x07 \xff" * 20)
    for _ in range(1 << 18):
        try:
            os.write(2, b"x" * 8192)
        except BlockingIOError:
            continue
    raise ValueError("\x1b[31ma document's words")


def serve(channel: socket.socket) -> None:
    CHANNEL[0] = channel.fileno()
    while True:
        line, files, _, _ = socket.recv_fds(channel, 4096, 2)
        if not line:
            return
        DOCUMENT[0], ANSWERS[0] = files
        if json.loads(line)["do"] == "hang":
            socket.recv_fds(channel, 1, 1)
        if json.loads(line)["do"] == "print":
            print_much()
        if json.loads(line)["do"] == "fail":
            raise ValueError("\x1b[31ma document's words")
        only = json.loads(line).get("only")
        jobs.write(ANSWERS[0], json.dumps(tried(only)).encode() + b"\n")
        os.close(ANSWERS[0])


def tried(only: list[str] | None) -> dict[str, Any]:
    """Try all, or only some; return what could be done, what could not, and other facts."""
    SPARED.update((DOCUMENT[0], ANSWERS[0]))
    could: dict[str, Any] = {}
    could_not: dict[str, str] = {}
    for name, attempt in attempts(Path(HOME[0]), int(CLIENT[0])).items():
        if name not in (only or (name,)):
            continue
        try:
            could[name] = str(attempt())[:200]
        except BaseException as error:  # noqa: BLE001  # whatever stops it
            could_not[name] = f"{type(error).__name__} {error}"[:200]
    facts = {"environment": dict(os.environ), "descriptors": descriptors()}
    return {"could": could, "could not": could_not, "facts": facts}


def answer(_: Any, document: int, answers: int) -> None:
    """Stand for the embedded engine's own way to answer about an image."""
    DOCUMENT[0], ANSWERS[0], CHANNEL[0] = document, answers, answers
    content = os.pread(document, 1 << 16, 0)
    if content == b"crash":
        os.abort()
    only = json.loads(content) if content.startswith(b"[") else None
    jobs.write(answers, json.dumps(tried(only)).encode())


def leave_out(parts: str) -> None:
    """Be a kernel that lacks something."""
    reason = "left out by the test"
    if "namespaces" in parts:
        namespaces.unshare = lambda: dict.fromkeys(
            ("user", "mnt", "pid", "ipc", "net", "uts", "cgroup"), reason
        )
    if "landlock" in parts:
        landlock.version = lambda: 0
    if "limits" in parts:
        resource.setrlimit = lambda *_: None
    if "seccomp" in parts:

        def missing() -> None:
            raise seccomp.MissingError(reason)

        seccomp.load = missing  # type: ignore[assignment]


if __name__ == "__main__":
    leave_out(sys.argv[4])
    kind, HOME[0], CLIENT[0] = sys.argv[1:4]
    sys.argv = [sys.argv[0], *sys.argv[5:]]
    if kind == "renderer":
        jobs.serve = serve
        worker.main()
    else:
        # Not above: what Tesseract brings along is not what a renderer has.
        from cloister.engines.tesseract import worker as engine_worker

        engine_worker.answer = answer  # type: ignore[assignment]
        engine_worker.main()
