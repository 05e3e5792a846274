"""Become `vllm serve`: the entry point of the vllm image, and of a replica as a process.

Run as `python -m cloister.engines.vllm --model FOLDER --device cpu`. Standard library only.
"""

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from cloister.engines.vllm.options import Options

# What vLLM's image knows of the model beforehand: images/vllm/Dockerfile.
_KEPT = Path("/opt/vllm-cache")


def fill_cache(environment: Mapping[str, str], kept: Path = _KEPT) -> None:
    """Copy what the image kept to where vLLM looks, a folder that is empty at each start."""
    place = environment.get("VLLM_CACHE_ROOT")
    if place is not None and kept.is_dir():
        shutil.copytree(kept, place, dirs_exist_ok=True)


def main() -> None:
    """Replace this process, so that signals reach vLLM itself."""
    options = Options.parse(sys.argv[1:])
    command = options.serve()
    program = shutil.which(command[0])
    if program is None:
        sys.exit("error: `vllm` is not on PATH\nhint: install vLLM 0.32 or newer")
    os.environ.update(options.environment())
    fill_cache(os.environ)
    os.execv(program, command)  # noqa: S606  # a list, no shell


if __name__ == "__main__":
    main()
