"""What processes of this machine, containers' among them, take of its memory."""

import psutil


def resident_mib(pid: int) -> int | None:
    """Return the resident set of a process and its children, None when it is gone."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        return sum(member.memory_info().rss for member in family) >> 20
    except psutil.Error:  # gone between the two questions
        return None


def born(pid: int) -> float | None:
    """Return when a process began, which tells it from a later one of the same number."""
    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return None
