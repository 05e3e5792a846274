"""What was given to be read into a run folder: kept in the state folder, not in the run folder.

A ledger names files, and may come from a stranger. `invoke ocr --out FOLDER` without a PATH reads
those beneath what this user once gave for the same folder, and no others.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cloister import console, datafiles
from cloister.datafiles import DataError
from cloister.errors import DeploymentError
from cloister.files import write_atomically
from cloister.folders import Folder
from cloister.layout import Layout
from cloister.ocr import documents
from cloister.ocr.documents import Document
from cloister.ocr.targets import LEDGER
from cloister.statefolder import require_own


@dataclass(frozen=True)
class Origins:
    """Absolute paths that were given: folders, and single files."""

    folders: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()

    def has(self, document: Document) -> bool:
        """Return whether a document of a ledger is one of these."""
        path, name = document.path, document.name
        if not path.is_absolute() or not name.parts or ".." in name.parts:
            return False
        if str(path) in self.files and str(name) == path.name:
            return True
        root = document.root
        # The second is a folder that could not be looked into.
        return str(root) in self.folders and path in {root / name, root / name.parent}


def note(state: Path, folder: Folder, given: Sequence[str | os.PathLike[str]]) -> None:
    """Add what was given for a run folder, which has its ledger; reports where that cannot be."""
    known = _read(state, folder)
    found = [one for path in given if (one := documents.origin(Path(path))) is not None]
    made = Origins(
        known.folders | {str(path) for is_folder, path in found if is_folder},
        known.files | {str(path) for is_folder, path in found if not is_folder},
    )
    if made == known:
        return
    told = {"folders": sorted(made.folders), "files": sorted(made.files)}
    try:
        write_atomically(_place(state, folder), json.dumps(told), mode=0o600)
    except DeploymentError as error:
        console.say(error.message)
        console.say(f"without that, `{folder.path}` needs PATH each time")


def strange(state: Path, folder: Folder, known: Iterable[Document]) -> Document | None:
    """Return a document of a run folder's ledger that nobody gave, None where there is none.

    Raises DeploymentError where another user could have written what was given.
    """
    require_own(state)
    origins = _read(state, folder)
    return next((document for document in known if not origins.has(document)), None)


def is_noted(state: Path, folder: Folder) -> bool:
    """Return whether there is a record of what was given for a run folder."""
    return _place(state, folder).exists()


def _place(state: Path, folder: Folder) -> Path:
    """Return where that is kept: another folder at this path, or another ledger, has another."""
    ledger = folder.find(LEDGER)
    whose = f"{os.path.realpath(folder.path)}\0{ledger and ledger.st_ino}"
    return Layout(state).readings / hashlib.sha256(os.fsencode(whose)).hexdigest()


def _read(state: Path, folder: Folder) -> Origins:
    try:
        found = datafiles.load_json(_place(state, folder))
        return Origins(frozenset(found["folders"]), frozenset(found["files"]))
    except (OSError, DataError, LookupError, TypeError):
        return Origins()  # none is there, or a damaged one, which allows nothing
