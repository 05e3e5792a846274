"""A copy of the project in which a test may write what a user's checkout would get."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deployments import ROOT, Stack, grouped


class Checkout:
    """A copy of the project's files, and a stack whose commands run from it."""

    def __init__(self, root: Path, stack: Stack) -> None:
        self.root, self.stack = root, stack
        files = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        listed = subprocess.run(files, cwd=ROOT, capture_output=True, check=True).stdout
        for name in filter(None, listed.decode().split("\0")):
            target = root / name
            if (ROOT / name).is_file():  # one that was removed is listed until it is committed
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, target)
        for file in (root / "tuned").iterdir():
            file.unlink()
        stack.settings["PYTHONPATH"] = str(root)

    @contextmanager
    def tuning(self, *flags: str) -> Iterator["subprocess.Popen[str]"]:
        """Start `nox -s tune`, as nox would, in a session of its own."""
        with grouped(
            [sys.executable, "-m", "loadtests.tune", *flags],
            cwd=self.root,
            env={**os.environ, **self.stack.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            yield process

    def tuned(self, *flags: str, code: int = 0, timeout_s: float = 600) -> str:
        """Tune to the end; return what was said."""
        with self.tuning(*flags) as process:
            said, told = process.communicate(timeout=timeout_s)
        assert process.returncode == code, said + told
        assert "Traceback" not in told, told
        return told

    def invoke(self, *arguments: str, timeout_s: float = 400) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "invoke", *arguments],
            cwd=self.root,
            env=self.stack.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def settings(self) -> Any:
        """Return the settings of what is up."""
        return json.loads((self.stack.state / "deployment.json").read_text())["settings"]
