"""What to do about a difference: commands that end it, by what may have made it; pure."""

from collections.abc import Iterable
from pathlib import Path

from cloister.isolation.part import Bridge, Part
from cloister.runtimes import GATEWAY

RECREATE = "invoke down, then invoke up"


def undo(override: Path | None, otherwise: str = RECREATE) -> str:
    """Return how to end what an override may have made: with it, `up` makes the same again."""
    if override is None:
        return otherwise
    return f"if `{override}` makes it, change that file, then invoke up; if not, {otherwise}"


def leave(part: Part, networks: Iterable[str]) -> str:
    """Return how a container leaves networks that are not planned; that needs no new container."""
    further = sorted({*networks} - {*part.networks})
    if not part.networks or not further:
        return RECREATE
    attach = "invoke network.attach {}, or " if part.service == GATEWAY else ""
    command = f"{attach}docker network disconnect {{}} {part.container}"
    return "; ".join(command.replace("{}", name) for name in further)


def remove(bridge: Bridge, members: Iterable[str]) -> str:
    """Return how to remove containers from a network that they are not planned on."""
    further = sorted({*members} - {*bridge.members})
    return "; ".join(f"docker network disconnect {bridge.name} {name}" for name in further)
