"""Become `vllm serve`: the entry point of the vllm image, and of a replica as a process.

Run as `python -m cloister.engines.vllm --model FOLDER --device cpu`. Standard library only.
"""

import os
import shutil
import sys

from cloister.engines.vllm.options import Options


def main() -> None:
    """Replace this process, so that signals reach vLLM itself."""
    options = Options.parse(sys.argv[1:])
    command = options.serve()
    program = shutil.which(command[0])
    if program is None:
        sys.exit("error: `vllm` is not on PATH\nhint: install vLLM 0.32 or newer")
    os.environ.update(options.environment())
    os.execv(program, command)  # noqa: S606  # a list, no shell


if __name__ == "__main__":
    main()
