"""The model store: one folder a revision below models/, complete once it has its READY file."""

import hashlib
from pathlib import Path

from cloister.config import Settings, project_root
from cloister.errors import ModelStoreError

READY = "READY"
_NEEDED = "config.json"
_DOWNLOAD = "download it by the service `model-downloader` (docs/containers.md)"


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
            hint=f"{_DOWNLOAD}, or set `model.folder`",
        )
    if not (found / _NEEDED).is_file():
        raise ModelStoreError(
            f"`{found}` holds no model: it has no {_NEEDED}",
            hint=f"{_DOWNLOAD}, or set `model.folder` to a folder with the model's files",
        )
    return found


def verified(settings: Settings) -> Path:
    """Return the folder of the model after every byte of it was compared with its READY file."""
    found = require(settings)
    ready = found / READY
    if not ready.is_file():
        raise ModelStoreError(
            f"`{found}` is not of the model store: it has no {READY}", hint=_DOWNLOAD
        )
    for line in ready.read_text(encoding="utf-8").splitlines():
        wanted, _, name = line.partition("  ")
        with (found / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != wanted:
                raise ModelStoreError(
                    f"`{found / name}` is not what was downloaded", hint=_DOWNLOAD
                )
    return found
