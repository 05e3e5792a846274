"""nginx cannot give away how much of a wrong key is right: it does not know the right one.

It has the key's digest, and the digests of two keys differ early however alike the keys are. Both
facts need no clock. `nox -s bench-key-timing` measures the times.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from key_guessing import GOOD, SECRET, leaky, wrong
from siege import siege

from cloister import keys

_LETTERS = 6  # of the secret, which nothing but the secret has in a row
_BY_CHANCE = 2  # letters that two digests may begin with alike


def holds(pid: int, text: str) -> bool:
    """Tell whether a process has a text anywhere in its memory."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            addresses, permissions = line.split()[:2]
            first, last = (int(part, 16) for part in addresses.split("-"))
            if permissions.startswith("r"):
                with suppress(OSError, OverflowError):  # pages of the kernel's, such as vvar
                    if text.encode() in os.pread(memory.fileno(), last - first, first):
                        return True
    return False


def is_even(compared: Callable[[str], str]) -> bool:
    """Tell whether what is compared differs as early for any wrong key, however right it is."""
    start = compared(GOOD)[: _BY_CHANCE + 1]
    return not any(compared(wrong(right)).startswith(start) for right in range(len(SECRET)))


def test_nginx_has_the_digest_of_a_key_and_not_the_key() -> None:
    with siege() as besieged:  # nobody shows the key before its memory is read
        for process in besieged.door.processes():
            assert holds(process.pid, keys.digest(GOOD)), "or this does not look where keys are"
            assert not holds(process.pid, SECRET[:_LETTERS])
        assert besieged.read_a_page().status_code == 200, "and the key is one that it takes"


def test_the_search_finds_the_key_of_a_server_that_leaks() -> None:
    with leaky() as server:
        assert holds(server.pid, SECRET[:_LETTERS])


def test_digests_differ_early_however_alike_the_keys_are() -> None:
    assert is_even(keys.digest)
    assert not is_even(lambda key: key), "as a server compares that leaks"
