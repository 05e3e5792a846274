"""Labels of containers and networks, without what Compose writes by itself; pure."""

import re
from typing import Any

_COMPOSE = "com.docker.compose."
# The shapes that the values have. Containers are found by their project and service.
_LABELS = {
    "config-hash": "[0-9a-f]{64}",
    "container-number": "[0-9]+",
    "depends_on": "[a-z0-9_:,.-]*",
    "image": "sha256:[0-9a-f]{64}",
    "network": "[a-z0-9_.-]+",
    "oneoff": "False",
    "project": "[a-z0-9_-]+",
    "project.config_files": "/.*",
    "project.environment_file": "/.*",
    "project.working_dir": "/.*",
    "replace": "[a-z0-9_.-]+",
    "service": "[a-z0-9_.-]+",
    "version": "[0-9a-z.+~-]+",
}


def own_labels(told: Any) -> dict[str, str]:
    """Return the labels that Compose did not write."""
    return {name: value for name, value in (told or {}).items() if not _by_compose(name, value)}


def _by_compose(name: str, value: str) -> bool:
    shape = _LABELS.get(name.removeprefix(_COMPOSE)) if name.startswith(_COMPOSE) else None
    return shape is not None and re.fullmatch(shape, value) is not None
