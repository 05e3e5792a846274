"""The model store: one folder a revision below models/, complete once it has its READY file."""

from pathlib import Path

from cloister.config import Settings, project_root
from cloister.errors import ModelStoreError

READY = "READY"
_NEEDED = "config.json"


def store() -> Path:
    """Return the folder of all models."""
    return project_root() / "models"


def folder(settings: Settings) -> Path | None:
    """Return the folder of the model to serve, None when there is none.

    That is `model.folder`, or else the revision of `model.name` that was completed last.
    """
    if settings.model.folder is not None:
        return settings.model.folder
    ready = [path.parent for path in (store() / settings.model.name).glob(f"*/{READY}")]
    return max(ready, key=lambda path: (path / READY).stat().st_mtime, default=None)


def require(settings: Settings) -> Path:
    """Return the folder of the model to serve; raises ModelStoreError when it is not there."""
    found = folder(settings)
    if found is None:
        raise ModelStoreError(
            f"no model `{settings.model.name}` in `{store()}`, which vLLM needs",
            hint="invoke download, or set `model.folder`",
        )
    if not (found / _NEEDED).is_file():
        raise ModelStoreError(
            f"`{found}` holds no model: it has no {_NEEDED}",
            hint="invoke download, or set `model.folder` to a folder with the model's files",
        )
    return found
