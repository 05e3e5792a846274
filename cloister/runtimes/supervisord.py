"""Programs to supervisord's configuration, as pure text."""

import re
import shlex
import sys
from pathlib import Path

from cloister.errors import DeploymentError
from cloister.runtimes.program import Program
from cloister.runtimes.reservation import NAMESPACE

GROUP_SUFFIX = ".group"


def render(programs: tuple[Program, ...], *, folder: Path, logs: Path, root: Path) -> str:
    """Return supervisord's configuration; pure."""
    sections = [
        "; Rendered by Cloister; edits here are lost at the next `invoke up`.",
        "[unix_http_server]",
        f"file={_value(folder / 'supervisor.sock')}",
        "chmod=0700",
        "",
        "[supervisord]",
        f"logfile={_value(logs / 'supervisord.log')}",
        f"pidfile={_value(folder / 'supervisord.pid')}",
        f"childlogdir={_value(logs)}",
        f"directory={_value(root)}",
        "umask=022",
        "",
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
        f"[rpcinterface:{NAMESPACE}]",
        "supervisor.rpcinterface_factory=cloister.runtimes.reservation:make",
    ]
    for program in programs:
        sections += ["", *_program(program, folder, logs)]
    return "\n".join(sections) + "\n"


def described_stop_s(configuration: Path) -> int:
    """Return the longest time that a program of a configuration may take to stop, 0 for none.

    Programs that were started before it was written have theirs in a comment. One that cannot be
    read, such as root's, tells nothing.
    """
    try:
        text = configuration.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    return max(map(int, re.findall(r"(?m)^(?:; )?stopwaitsecs=(\d{1,9})$", text)), default=0)


def _program(program: Program, folder: Path, logs: Path) -> list[str]:
    record = str(folder / f"{program.name}{GROUP_SUFFIX}")
    takes_over = (sys.executable, "-m", "cloister.takeover", record, str(program.socket or ""))
    return [
        f"[program:{program.name}]",
        f"command={_value(shlex.join((*takes_over, *program.program, *program.flags)))}",
        "autorestart=true",
        # One that lives this long has bound its port: nginx tries for 2.5 s.
        "startsecs=4",
        "startretries=10",
        f"stopsignal={program.stop_signal}",
        f"stopwaitsecs={program.stop_wait_s}",
        "killasgroup=true",
        "redirect_stderr=true",
        *_environment(program),
        f"stdout_logfile={_value(logs / program.name)}.log",
        "stdout_logfile_maxbytes=10MB",
        "stdout_logfile_backups=3",
    ]


def _environment(program: Program) -> list[str]:
    if program.gpu is None:
        return []
    # Counted as nvidia-smi counts; CUDA's own order is by speed.
    return [f'environment=CUDA_DEVICE_ORDER="PCI_BUS_ID",CUDA_VISIBLE_DEVICES="{program.gpu}"']


def _value(value: object) -> str:
    """Escape a value: `%` begins an expansion; a comment cannot be escaped."""
    text = str(value)
    if " ;" in text or " #" in text or '"' in text or not text.isprintable():
        raise DeploymentError(
            f"`{text}` has characters that the supervisor's configuration cannot hold",
            hint="move it to a path of plain characters",
        )
    return text.replace("%", "%%")
