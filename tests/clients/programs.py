"""The programs of docs/clients.md, run as they stand there."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from deployments import ROOT
from service import Service

PAGE = ROOT / "docs" / "clients.md"
_FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_OURS = Path(__file__).parent
# Made by `nox -s clients`: the packages of requirements/clients.txt, and node_modules.
_ENVIRONMENT = "CLIENTS_ENVIRONMENT"
_TIMEOUT_S = 600


@dataclass(frozen=True)
class Program:
    """One fenced block below a heading."""

    section: str
    number: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.section} {self.number}"

    def changed(self, *changes: tuple[str, str]) -> "Program":
        """Return one with other words, each of which must be there."""
        text = self.text
        for old, new in changes:
            assert old in text, f"{self} does not say {old!r}"
            text = text.replace(old, new)
        return replace(self, text=text)

    def run(self, service: Service, folder: Path) -> subprocess.CompletedProcess[str]:
        """Run it in a folder that has the documents it reads."""
        command = {
            "python": [str(self._python()), "main.py"],
            "javascript": [str(_environment() / "bin" / "node"), "main.mjs"],
            "bash": ["bash", "-euo", "pipefail", "main.sh"],
        }[self.language]
        (folder / command[-1]).write_text(self.text, encoding="utf-8")
        modules = folder / "node_modules"
        if not modules.exists():
            modules.symlink_to(_environment() / "node_modules")
        path = os.pathsep.join([str(_environment() / "bin"), service.environment["PATH"]])
        own = {"PATH": path, "HOME": str(folder)}
        if self.section == "docling":
            own["PYTHONPATH"] = str(_OURS / "without_torch")
        return subprocess.run(
            command,
            cwd=folder,
            env={**service.environment, **own},
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_S,
        )

    def _python(self) -> Path:
        # LlamaIndex holds the clients' environment to an older openai than the tests' own.
        if self.section == "OpenAI for Python":
            return Path(sys.executable)
        return _environment() / "bin" / "python"


def _environment() -> Path:
    assert _ENVIRONMENT in os.environ, "run these tests by `.venv/bin/nox -s clients`"
    return Path(os.environ[_ENVIRONMENT])


def programs() -> list[Program]:
    """Return the page's programs in order; what stands above the first heading is no program."""
    found = []
    for part in re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        section = part.partition("\n")[0]
        blocks = enumerate(_FENCED.findall(part), 1)
        found += [Program(section, number, *block) for number, block in blocks]
    return found


def exported() -> dict[str, str]:
    """Return the variables that the page's first block exports."""
    head = PAGE.read_text(encoding="utf-8").partition("\n## ")[0]
    return dict(re.findall(r"^export (\w+)=(\S+)", head, re.MULTILINE))
