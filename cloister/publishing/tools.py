"""The door to skopeo, cosign and syft: found early, run without a terminal, failing in a line."""

import contextlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cloister import datafiles, shell
from cloister.datafiles import DataError
from cloister.errors import PublishError

_LONG_S = 4 * 3600.0  # 20 GB over a slow line
_AGAIN = "run the same command again; it goes on where it stopped"
_FATAL = re.compile(r'level=fatal msg="(.*)"$')
MANIFEST_BYTES = 4 << 20  # as registries take
_LIST_BYTES, _LIST_VALUES = 128 << 20, 5_000_000  # vLLM's list of packages has some 200,000 values
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


def parsed(what: str, content: str | bytes, most_bytes: int = _LIST_BYTES) -> Any:
    """Return JSON that one of them printed, which a registry or an image may have had a say in.

    Raises PublishError for what is none, or is beyond its bounds of size, depth and values.
    """
    if len(content) > most_bytes:
        raise PublishError(f"{what} is larger than {most_bytes:,} bytes")
    try:
        return datafiles.parse_json(content, most_values=_LIST_VALUES)
    except DataError as error:
        raise PublishError(f"{what} cannot be read: {str(error)[:_SAID]}") from error


def loaded(what: str, path: Path, most_bytes: int = _LIST_BYTES) -> Any:
    """Return JSON that one of them wrote; raises PublishError as `parsed`."""
    try:
        content = datafiles.read(path, most_bytes)
    except (DataError, OSError) as error:
        raise PublishError(f"{what} cannot be read: {error}") from error
    return parsed(what, content, most_bytes)


@contextlib.contextmanager
def expecting(what: str) -> Iterator[None]:
    """Turn the errors of a reader that finds other kinds of values into a PublishError."""
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise PublishError(f"{what} is not what it has to be") from error


def why(result: shell.Result) -> str:
    """Return the last line that a failed program printed, plain."""
    lines = result.stderr.strip().splitlines() or [f"it ended with code {result.code}"]
    fatal = _FATAL.search(lines[-1])
    text = fatal[1].replace('\\"', '"') if fatal else lines[-1]
    return text.removeprefix("error during command execution: ")[-_SAID:]
