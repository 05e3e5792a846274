"""`invoke --list` of this project against one over an empty tasks file: medians and ratio."""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cloister.config import project_root

_REPEATS = 15


def _seconds(folder: Path) -> float:
    started = time.perf_counter()
    command = [sys.executable, "-m", "invoke", "--list"]
    # Invoke ends with 1 where there is no task to list.
    subprocess.run(command, cwd=folder, check=False, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    """Interleave the two, so that a busy moment of the machine meets both."""
    with tempfile.TemporaryDirectory() as empty:
        (Path(empty) / "tasks.py").touch()
        folders = {"empty tasks file": Path(empty), "this project": project_root()}
        times: dict[str, list[float]] = {name: [] for name in folders}
        for _ in range(_REPEATS):
            for name, folder in folders.items():
                times[name].append(_seconds(folder))
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        print(f"{name:>17}: {median * 1000:6.0f} ms (median of {_REPEATS})")  # noqa: T201
    print(f"            ratio: {medians['this project'] / medians['empty tasks file']:6.2f}")  # noqa: T201


if __name__ == "__main__":
    main()
