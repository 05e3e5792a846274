"""The door to skopeo, cosign and syft: found early, run without a terminal, failing in a line."""

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from cloister import shell
from cloister.errors import PublishError

_LONG_S = 4 * 3600.0  # 20 GB over a slow line
_AGAIN = "run the same command again; it goes on where it stopped"
_FATAL = re.compile(r'level=fatal msg="(.*)"$')
_SAID = 300  # characters of what a program said


def path(program: str) -> str:
    """Return the path of a program beside this Python or on PATH.

    Raises PublishError when there is none.
    """
    own = Path(sys.executable).with_name(program)
    found = own if own.exists() else shell.find(program)
    if found is None:
        raise PublishError(
            f"`{program}` is not installed, or not on PATH", hint="./scripts/publish-tools.sh"
        )
    return str(found)


def run(
    program: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> shell.Result:
    """Run one of them to its end; its code is in the result."""
    command = (path(program), *arguments)
    return shell.run(command, check=False, timeout_s=_LONG_S, environment=environment)


def require(
    what: str, program: str, arguments: Sequence[str], *, hint: str = _AGAIN
) -> shell.Result:
    """Run one of them; raises PublishError that says `what` failed, and why, in a line."""
    result = run(program, *arguments)
    if result.code != 0:
        raise PublishError(f"{what}: {why(result)}", hint=hint)
    return result


def why(result: shell.Result) -> str:
    """Return the last line that a failed program printed, plain."""
    lines = result.stderr.strip().splitlines() or [f"it ended with code {result.code}"]
    fatal = _FATAL.search(lines[-1])
    text = fatal[1].replace('\\"', '"') if fatal else lines[-1]
    return text.removeprefix("error during command execution: ")[-_SAID:]
