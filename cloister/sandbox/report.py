"""What of a sandbox a machine does not have, as text."""

from collections import defaultdict

_NAMES = {
    "user": "user namespace",
    "mnt": "mount namespace",
    "pid": "process namespace",
    "ipc": "IPC namespace",
    "net": "network namespace",
    "uts": "UTS namespace",
    "cgroup": "cgroup namespace",
    "landlock": "Landlock",
    "seccomp": "system call filter",
    "nobody": "user other than root",
}


def describe(missing: dict[str, str]) -> str:
    """Return what is missing as one line."""
    parts = defaultdict(list)
    for part, reason in missing.items():
        parts[reason].append(f"no {_NAMES.get(part, part)}")
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in parts.items())
