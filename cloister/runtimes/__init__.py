"""The runtimes: where programs run and who keeps them alive, behind one protocol, in one dict."""

from collections.abc import Callable
from pathlib import Path

from cloister.runtimes.process import ProcessRuntime
from cloister.runtimes.program import Program, ProgramState, Runtime

__all__ = ["RUNTIMES", "Program", "ProgramState", "Runtime"]

RUNTIMES: dict[str, Callable[[Path, Path, Path], Runtime]] = {"process": ProcessRuntime}
