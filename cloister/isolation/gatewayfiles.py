"""Whether nginx runs the planned files: whoever lets it take up others may put these back."""

import time
from collections.abc import Sequence
from datetime import datetime

from docker.models.containers import Container

from cloister.deployment.doorkeeper import Doorkeeper
from cloister.events import Journal
from cloister.isolation.control import probe
from cloister.isolation.finding import Finding
from cloister.isolation.scene import Scene
from cloister.layout import Layout
from cloister.nginx import CONFIGURATION
from cloister.runtimes import GATEWAY

_CHECK = "its files"
# When a worker of nginx began, in seconds since 1970: by this machine's clock as it is now, and as
# it was when the container was started.
Start = tuple[float, float]


def inspect_files(scene: Scene, watching: Container) -> Finding:
    """Return whether nginx runs the planned configuration, and its folder has nothing else."""
    layout = Layout(scene.settings.state_dir)
    path, keeper = layout.nginx_configuration, Doorkeeper(scene.settings, Journal(layout, "verify"))

    def look() -> tuple[float | None, list[Start]]:
        written = path.stat().st_ctime if path.exists() else None
        return written, _ask(scene, watching)

    differences, (written, starts) = keeper.compare(look)
    return judge_files(differences, written, starts, time.time())


def judge_files(
    differences: Sequence[str], written: float | None, starts: Sequence[Start], now: float
) -> Finding:
    """Judge the differences, and whether nginx.conf was `written` after a worker began; pure.

    `written` is None without that file, which is a difference.
    """
    newer = [written is not None and written > min(clock) for clock in zip(*starts, strict=True)]
    found = list(differences)
    if newer and all(newer) and (written or 0) <= now:
        found.append(f"{CONFIGURATION} is newer than the configuration that nginx runs")
    if found:
        # `up` writes all files when this one is missing.
        fix = (
            f"delete these files and {CONFIGURATION} in STATE_DIR/gateway, then invoke up, "
            f"then invoke restart --name {GATEWAY}"
        )
        return Finding(GATEWAY, _CHECK, "open", "; ".join(found), fix)
    if not newer:
        seen = "no nginx worker that accepts connections was found"
        return Finding(GATEWAY, _CHECK, "unproven", seen, "invoke verify again")
    if any(newer):
        seen = f"this machine's clock was changed, so nginx or {CONFIGURATION} may be newer"
        fix = f"touch the gateway's {CONFIGURATION}, then invoke restart --name {GATEWAY}"
        return Finding(GATEWAY, _CHECK, "unproven", seen, fix)
    return Finding(GATEWAY, _CHECK, "sealed", "nginx runs the planned files")


def _ask(scene: Scene, watching: Container) -> list[Start]:
    """Return when each worker that takes connections began; none where it cannot be told."""
    state = scene.members[GATEWAY].attrs["State"]
    (result,) = probe(watching, [{"kind": "workers", "pid": state["Pid"]}])
    started = datetime.fromisoformat(state["StartedAt"]).timestamp()
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return [
        (booted + begun, started + begun - result["first"]) for begun in result.get("workers", ())
    ]
