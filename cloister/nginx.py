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
_START_LOG = "start.log"
# As nginx-config/nginx.conf.j2 names them.
_FOLDERS_IT_MAKES, _FILES_IT_MAKES = ("body", "proxy", "unused"), (_START_LOG, "nginx.pid")
MINIMUM_VERSION = (1, 20)  # `-e` came with 1.19.5; older ones write to the system's log folder
_FOLDERS = tuple(Path(path) for path in ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin"))
_MODULES = ("ndk_http_module.so", "ngx_http_lua_module.so")


def find(configured: Path | None) -> Path:
    """Return the nginx to use; raises ToolError when there is none, or only an old one."""
    program = configured or shell.find("nginx", _FOLDERS)
    if program is None:
        raise ToolError(
            "nginx is not installed (looked on PATH and in /usr/sbin, /usr/local/sbin)",
            hint="./scripts/setup-nanonets.sh installs it, or: apt-get install nginx "
            "libnginx-mod-http-lua",
        )
    version(program)
    modules(program)
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


def modules(program: Path) -> Path:
    """Return the folder of its modules; raises ToolError where the ones that are loaded lack."""
    told = shell.run([str(program), "-V"]).stderr
    found = re.search(r"--modules-path=(\S+)", told)
    folder = Path(found[1]) if found else Path("/usr/lib/nginx/modules")
    missing = [name for name in _MODULES if not (folder / name).is_file()]
    if missing:
        raise ToolError(
            f"`{program}` lacks its Lua module (looked for {', '.join(missing)} in {folder})",
            hint="apt-get install libnginx-mod-http-lua, or `--set runtime=docker`",
        )
    return folder


def command(program: Path, configuration: Path) -> tuple[str, ...]:
    """Return the command line that serves a configuration and touches no system folder."""
    folder = configuration.parent
    return (
        *(str(program), "-p", str(folder), "-c", str(configuration)),
        *("-e", str(folder / _START_LOG)),
    )


def check(program: Path, files: Callable[[Place], Mapping[str, str]]) -> None:
    """Let nginx read a configuration in a scratch folder; raises GatewayError if it refuses."""
    with tempfile.TemporaryDirectory(prefix="cloister-nginx-") as scratch:
        folder = Path(scratch)
        configuration = folder / CONFIGURATION
        place = Place(folder, folder, version=version(program), modules=modules(program))
        for name, text in files(place).items():
            (folder / name).write_text(text, encoding="utf-8")
        result = shell.run([*command(program, configuration), "-t"], check=False)
    if result.code != 0:
        raise GatewayError(f"nginx refuses the rendered configuration:\n{result.stderr.strip()}")


def remove_leftovers(folder: Path) -> None:
    """Remove what an nginx that ran in a folder left there; bodies are parts of documents."""
    for name in _FOLDERS_IT_MAKES:
        if (folder / name).exists():
            shutil.rmtree(folder / name)
    for name in _FILES_IT_MAKES:
        (folder / name).unlink(missing_ok=True)


def worker_user() -> str | None:
    """Return `user group` for nginx' workers where this is root: root's own; None for others.

    Without it nginx gives them to the user that it was compiled with, such as `nobody`, who cannot
    reach a state folder in a closed place, and whose other programs could read the workers' memory:
    docs/decisions/0029.
    """
    if os.geteuid() != 0:
        return None
    root = pwd.getpwuid(0)
    return f"{root.pw_name} {grp.getgrgid(root.pw_gid).gr_name}"
