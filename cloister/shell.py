"""The one door to other programs: lists only, captured, and a typed failure."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cloister.cleaning import printable
from cloister.errors import ToolError

_TAIL_LINES = 12
_INTERRUPTED = 130


@dataclass(frozen=True)
class Result:
    """What a program printed, and its exit code."""

    code: int
    stdout: str
    stderr: str


def run(
    command: Sequence[str],
    *,
    timeout_s: float = 60.0,
    check: bool = True,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Result:
    """Run a program to its end, in `folder`, with `environment` beside what is inherited.

    Raises ToolError when it is missing, takes longer than `timeout_s`, or (with `check`) ends
    with another code than 0; the message has the last lines it printed.
    """
    program = command[0]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            check=False,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            encoding="utf-8",
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=timeout_s,
        )
    except FileNotFoundError as error:
        raise ToolError(f"`{program}` is not installed, or not on PATH") from error
    except PermissionError as error:
        raise ToolError(f"`{program}` may not be run: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"`{program}` did not end within {timeout_s:g} s") from error
    if check and done.returncode != 0:
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-_TAIL_LINES:])
        raise ToolError(f"`{' '.join(command)}` ended with code {done.returncode}:\n{tail}")
    return Result(done.returncode, done.stdout, done.stderr)


def attend(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    inherit: bool = True,
    folder: Path | None = None,
) -> int:
    """Run a program that shows its own progress on standard error; return its exit code.

    Its environment is `environment` alone unless it is to `inherit` ours. Ctrl-C reaches it too,
    and it is waited for. Raises KeyboardInterrupt when that ended it, ToolError when it is missing.
    """
    whole = {**os.environ, **environment} if inherit else dict(environment)
    # An exception at the wrong moment would lose the child's exit code, and 0 be taken for it.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        child = subprocess.Popen(command, cwd=folder, env=whole, stdout=subprocess.DEVNULL)
        code = child.wait()
    except FileNotFoundError as error:
        raise ToolError(f"`{command[0]}` is not installed, or not on PATH") from error
    finally:
        signal.signal(signal.SIGINT, before)
    if code in {_INTERRUPTED, -signal.SIGINT}:
        raise KeyboardInterrupt
    return code


def find(program: str, folders: Sequence[Path] = ()) -> Path | None:
    """Return the path of a program on PATH or in `folders`, which an ordinary PATH may lack."""
    found = shutil.which(program)
    for folder in [] if found else folders:
        found = shutil.which(program, path=str(folder))
        if found:
            break
    return Path(found) if found else None


def tail(files: Sequence[Path], *, lines: int, follow: bool) -> None:
    """Print the ends of files, and to `follow` whatever comes after, until Ctrl-C."""
    options = ["-n", str(lines), *(["-F"] if follow else [])]
    relay(["tail", *options, *map(str, files)])


def relay(command: Sequence[str], *, folder: Path | None = None) -> None:
    """Print what a program prints until it ends, without what a terminal would obey.

    Ctrl-C and SIGTERM end both. Raises ToolError when the program is missing or fails.
    """
    before = signal.signal(signal.SIGTERM, _end)
    try:
        with subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        ) as child:
            try:
                for line in child.stdout or ():
                    sys.stdout.write(printable(line))
                    sys.stdout.flush()
            except BaseException:
                child.terminate()
                raise
    except FileNotFoundError as error:
        raise ToolError(f"`{command[0]}` is not installed, or not on PATH") from error
    finally:
        signal.signal(signal.SIGTERM, before)
    if child.returncode != 0:
        raise ToolError(f"`{' '.join(command)}` ended with code {child.returncode}")


def _end(number: int, _: object) -> None:
    raise SystemExit(128 + number)
