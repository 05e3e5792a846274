"""The models on this machine: which are there, whether they are whole, and which one is served."""

from pathlib import Path
from typing import TYPE_CHECKING

from cloister.errors import ModelStoreError
from cloister.modelstore import pins, sanity
from cloister.modelstore.pins import File, Pin
from cloister.modelstore.store import READY, Revision, Store

if TYPE_CHECKING:  # the downloader's image has no configuration
    from cloister.config import Settings

__all__ = ["READY", "File", "Pin", "Revision", "Store", "folder", "require", "verified"]

_NEEDED = "config.json"


def folder(settings: "Settings") -> Path | None:
    """Return the folder of the model to serve, None when it was not downloaded.

    That is `model.folder`, or else `model.revision` of `model.name`, or the one locked last.
    """
    if settings.model.folder is not None:
        return settings.model.folder
    pin = pins.find(settings.model.store, settings.model.name, settings.model.revision)
    if pin is None:
        return None
    found = Store(settings.model.store).folder(pin.model, pin.revision)
    return found if (found / READY).is_file() else None


def require(settings: "Settings") -> Path:
    """Return the folder of the model to serve, with every file that was locked there.

    Raises ModelStoreError when it is not there, not as it was left, or not fit for the settings.
    """
    found = folder(settings)
    if found is None:
        revision = settings.model.revision
        at = f" at {revision}" if revision else ""
        raise ModelStoreError(
            f"no model `{settings.model.name}`{at} in `{settings.model.store}`, which vLLM needs",
            hint=f"{_again(settings)}, or set `model.folder`",
        )
    if settings.model.folder is None:
        try:
            Store(settings.model.store).require(settings.model.name, found.name)
        except ModelStoreError as error:
            raise ModelStoreError(error.message, hint=_again(settings)) from error
    elif not (found / _NEEDED).is_file():
        raise ModelStoreError(
            f"`{found}` holds no model: it has no {_NEEDED}",
            hint="set `model.folder` to a folder with the model's files",
        )
    sanity.check(found, settings)
    return found


def verified(settings: "Settings") -> Path:
    """Return the folder of the model after every byte of it was compared with the lock."""
    found = require(settings)
    if settings.model.folder is not None:
        raise ModelStoreError(
            f"`{found}` is outside the model store, so nothing says what it has to be",
            hint=f"take `model.folder` away; {_again(settings)}",
        )
    Store(settings.model.store).verify(settings.model.name, found.name)
    return found


def _again(settings: "Settings") -> str:
    return f"invoke download --model {settings.model.name}"
