"""What was done for one built image, on disk: a rerun goes on from there."""

import datetime as dt
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from cloister import datafiles
from cloister.files import write_atomically

_NAME = "record.json"


class Record(BaseModel):
    """One image by its id: built between two moments, tested with these facts, exported as this.

    What is in a registry is not in here: the registry is asked, whatever was written down.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    began: dt.datetime
    ended: dt.datetime
    facts: Mapping[str, str] | None = None
    digest: str | None = None
    size: int = 0


def folder(root: Path, image: str, identity: str) -> Path:
    """Return where the record of an image is, with what was made of it."""
    return root / f"{image}-{identity.removeprefix('sha256:')[:12]}"


def read(where: Path, identity: str) -> Record | None:
    """Return the record, None where there is none or where it is of no use: then all is redone."""
    try:
        found = Record.model_validate_json(datafiles.read_json(where / _NAME))
    except (OSError, ValueError):
        return None
    return found if found.id == identity else None


def write(where: Path, record: Record) -> None:
    """Write the record, whole or not at all."""
    write_atomically(where / _NAME, record.model_dump_json(indent=1) + "\n")
