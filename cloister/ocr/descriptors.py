"""Open files: a run holds one for every document that is under way."""

import resource

# More than a run with all its pages, connections and processes needs; some systems begin with 256.
_WANTED = 4_096


def raise_limit() -> None:
    """Let this process have as many open files as a run needs, or as it may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED if hard == resource.RLIM_INFINITY else min(_WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def most() -> int:
    """Return how many open files this process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _WANTED if soft == resource.RLIM_INFINITY else soft
