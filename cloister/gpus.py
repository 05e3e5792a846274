"""Which NVIDIA cards this machine has, as nvidia-smi tells it."""

from dataclasses import dataclass

from cloister import shell
from cloister.errors import ToolError

_PROGRAM = "nvidia-smi"
_QUESTION = (
    "--query-gpu=index,name,memory.total,memory.used,utilization.gpu",
    "--format=csv,noheader,nounits",
)
# Without its persistence daemon the driver wakes each card first, eight of them in some seconds.
_TIMEOUT_S = 20.0
_NONE = "No devices were found"
_UNTOLD = {"[N/A]", "N/A", "[Not Supported]"}


@dataclass(frozen=True)
class Card:
    """One card, by the number that nvidia-smi gives it.

    `memory_mib` is all its memory, `used_mib` what anybody uses of it now, and `busy_percent` the
    share of the last second or less in which it worked. What a card does not tell is 0 for
    memory, None for the share.
    """

    index: int
    name: str
    memory_mib: int
    used_mib: int = 0
    busy_percent: int | None = None


def cards() -> tuple[Card, ...]:
    """Return this machine's cards, none where there is no nvidia-smi or it finds none.

    Raises ToolError when nvidia-smi fails, as it does when its driver is not loaded, or prints
    something else than figures.
    """
    if shell.find(_PROGRAM) is None:
        return ()
    found = shell.run([_PROGRAM, *_QUESTION], timeout_s=_TIMEOUT_S, check=False)
    if _NONE in found.stdout:  # depending on its version, with code 0 or 6
        return ()
    if found.code != 0:
        said = (found.stderr or found.stdout).strip()
        raise ToolError(f"`{_PROGRAM}` ended with code {found.code}:\n{said}", hint=_PROGRAM)
    return tuple(_card(line) for line in found.stdout.splitlines() if line.strip())


def _card(line: str) -> Card:
    try:
        index, name, *more, memory, used, busy = (field.strip() for field in line.split(","))
        return Card(
            index=int(index),
            name=", ".join((name, *more)),
            memory_mib=_figure(memory) or 0,
            used_mib=_figure(used) or 0,
            busy_percent=_figure(busy),
        )
    except ValueError as error:
        raise ToolError(
            f"`{_PROGRAM}` printed `{line.strip()}` for a card, not its number, name and figures",
            hint=_PROGRAM,
        ) from error


def _figure(text: str) -> int | None:
    return None if text in _UNTOLD else int(text)
