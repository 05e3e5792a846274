"""Whose the containers of a project are: this state folder's, or those of another Compose call."""

from collections.abc import Mapping
from pathlib import Path

from docker.models.containers import Container

from cloister.errors import DeploymentError

_FILES = "com.docker.compose.project.config_files"
_ENDED = {"exited", "created", "dead"}


def select(found: Mapping[str, Container], overlay: Path) -> dict[str, Container]:
    """Return the containers that were made with a state folder's overlay."""
    return {name: one for name, one in found.items() if _is_own(one, overlay)}


def require(found: Mapping[str, Container], overlay: Path, project: str) -> None:
    """Require that nobody else's containers run in a project; raises DeploymentError."""
    for container in found.values():
        if container.status not in _ENDED and not _is_own(container, overlay):
            # The overlay, where it is another state folder's.
            last = container.labels.get(_FILES, "").rpartition(",")[2] or "unknown files"
            raise DeploymentError(
                f"project `{project}` is already up by plain Compose or from another state folder "
                f"(`{last}`)",
                hint="docker-compose down or invoke down there, or set another `docker.project`; "
                f"if that folder is gone: docker-compose --project-name {project} down",
            )


def _is_own(container: Container, overlay: Path) -> bool:
    named = container.labels.get(_FILES, "")
    # A path may have a comma, which Compose's list separates paths by.
    return f",{overlay}," in f",{named}," or any(
        Path(path).resolve() == overlay.resolve() for path in named.split(",")
    )
