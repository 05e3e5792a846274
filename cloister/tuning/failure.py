"""Why a server did not start, or did not last, from what it said; pure."""

import re

from cloister.cleaning import on_one_line
from cloister.tuning.trial import Failure

# The first that matches a line holds. What memory is short of is told in many words; a kernel that
# kills says nothing, and only the signal is left.
_SIGNS: dict[Failure, tuple[str, ...]] = {
    "OOM at start": (
        r"out of memory",
        r"OutOfMemory",
        r"No available memory for the cache blocks",
        r"less than desired GPU memory utilization",
        r"is less than requested memory for kv",  # vLLM's CPU build
        r"larger than the available KV cache memory",
        r"To serve at least one request with the model's max seq len",
        r"can(not|'t) allocate memory",
        r"std::bad_alloc",
        r"^MemoryError",
        r"SIGKILL|exit code 137",
        r"is too small for \d+ replica",  # placement's own word
    ),
    "driver": (
        r"CUDA driver version is insufficient",
        r"no CUDA-capable device",
        r"Found no NVIDIA driver",
        r"libcuda\.so",
        r"Failed to infer device type",
        r"CUDA error: (unknown|initialization|unspecified)",
        r"ECC error|\bXid\b",
        r"NVIDIA-SMI has failed",
    ),
    "bad flag": (
        r"unrecognized arguments",
        r"error: argument ",
        r"invalid choice",
        r"ValidationError",
        r"\bValueError: ",
    ),
    "cannot read": (r"cannot read, so it gets no pages",),
}
_LINE = 200


def classify(log: str, told: str, *, alive: bool, loaded: bool) -> tuple[Failure, str]:
    """Return why an engine failed, and the line that says so.

    `log` is what it wrote since its start, `told` what the deployment said of it. `alive` tells
    that it still ran, `loaded` that it had been serving.
    """
    lines = [*reversed(log.splitlines()), *told.splitlines()]
    for failure, signs in _SIGNS.items():
        sign = re.compile("|".join(signs), re.IGNORECASE)
        said = next((line for line in lines if sign.search(line)), None)
        if said is not None:
            oom_later = failure == "OOM at start" and loaded
            return ("OOM under load" if oom_later else failure), on_one_line(said, _LINE)
    said = next((line.strip() for line in (told, *lines) if line.strip()), "it said nothing")
    return ("time-out" if alive else "crash"), on_one_line(said.splitlines()[0], _LINE)
