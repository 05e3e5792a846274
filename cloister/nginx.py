"""The nginx program of this machine: where it is, how old, and what it thinks of a file."""

import grp
import os
import pwd
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from cloister import shell
from cloister.errors import GatewayError, ToolError
from cloister.gateway import Place

CONFIGURATION = "nginx.conf"
MINIMUM_VERSION = (1, 20)  # `-e` came with 1.19.5; older ones write to the system's log folder
_FOLDERS = tuple(Path(path) for path in ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin"))
_TRAVERSE = 0o001


def find(configured: Path | None) -> Path:
    """Return the nginx to use; raises ToolError when there is none, or only an old one."""
    program = configured or shell.find("nginx", _FOLDERS)
    if program is None:
        raise ToolError(
            "nginx is not installed (looked on PATH and in /usr/sbin, /usr/local/sbin)",
            hint="./scripts/setup-nanonets.sh installs it, or: apt-get install nginx",
        )
    version(program)
    return program


def version(program: Path) -> tuple[int, int]:
    """Return the first two numbers of its version; raises ToolError for an old one."""
    printed = shell.run([str(program), "-v"]).stderr
    found = re.search(r"nginx/(\d+)\.(\d+)", printed)
    numbers = (int(found[1]), int(found[2])) if found else (0, 0)
    if numbers < MINIMUM_VERSION:
        wanted = ".".join(map(str, MINIMUM_VERSION))
        raise ToolError(
            f"`{program} -v` says `{printed.strip()[:80]}`; expected nginx {wanted} or newer",
            hint="install a newer one and set `gateway.nginx` to its path",
        )
    return numbers


def command(program: Path, configuration: Path) -> tuple[str, ...]:
    """Return the command line that serves a configuration and touches no system folder."""
    folder = configuration.parent
    return (
        *(str(program), "-p", str(folder), "-c", str(configuration)),
        *("-e", str(folder / "start.log")),
    )


def check(program: Path, files: Callable[[Place], Mapping[str, str]]) -> None:
    """Let nginx read a configuration in a scratch folder; raises GatewayError if it refuses."""
    with tempfile.TemporaryDirectory(prefix="cloister-nginx-") as scratch:
        folder = Path(scratch)
        configuration = folder / CONFIGURATION
        for name, text in files(Place(folder, folder, version=version(program))).items():
            (folder / name).write_text(text, encoding="utf-8")
        result = shell.run([*command(program, configuration), "-t"], check=False)
    if result.code != 0:
        raise GatewayError(f"nginx refuses the rendered configuration:\n{result.stderr.strip()}")


def forget_bodies(folder: Path) -> None:
    """Remove the bodies that a killed nginx left on the disk: they are parts of documents."""
    for path in (folder / "body", folder / "proxy"):
        if path.exists():
            shutil.rmtree(path)


def worker_user(folder: Path) -> str | None:
    """Return `user group` for nginx' workers when this is root, None when nothing can be dropped.

    A worker must reach its temporary files; a state folder below a closed home forbids that, and
    then the workers stay root like everything else that root starts here.
    """
    if os.geteuid() != 0:
        return None
    existing = [path for path in (folder, *folder.parents) if path.exists()]
    if not all(path.stat().st_mode & _TRAVERSE for path in existing):
        return None
    nobody = pwd.getpwnam("nobody")
    return f"{nobody.pw_name} {grp.getgrgid(nobody.pw_gid).gr_name}"
