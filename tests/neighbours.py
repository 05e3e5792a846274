"""Other users of this machine: a number that nobody has, without an account, and `nobody`.

To become it takes root, or `sudo` without a password: docs/testing.md.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

USER, NOBODY = 12345, 65534
_SUDO = [] if os.geteuid() == 0 else ["sudo", "-n"]
# The tests' own Python may be in a home that nobody else enters.
_PYTHON = "/usr/bin/python3"


def run(program: str, *arguments: object, user: int = USER) -> str:
    """Let another user run a Python program to its end; return what it prints."""
    command = _command(program, *arguments, user=user)
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
    return done.stdout


@contextmanager
def running(program: str, *arguments: object) -> Iterator["subprocess.Popen[str]"]:
    """Let another user run a Python program, which has begun once it prints, and ends with this."""
    command, pipe = _command(program, *arguments), subprocess.PIPE
    options: dict[str, Any] = {"stdin": pipe, "stdout": pipe, "text": True, "cwd": "/"}
    with subprocess.Popen(command, **options) as process:
        assert process.stdin
        assert process.stdout
        try:
            line = process.stdout.readline()
            assert line, "the other user's program ended"
            sys.stdout.write(line)
            yield process
        finally:
            process.stdin.close()  # on which it ends


def _command(program: str, *arguments: object, user: int = USER) -> list[str]:
    become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    return [*_SUDO, *become, _PYTHON, "-I", "-c", program, *map(str, arguments)]
