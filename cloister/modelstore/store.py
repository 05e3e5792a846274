"""The model store: a folder a revision, complete once it has its READY file.

A revision is staged beside its place and renamed when every byte was verified, so that what is
there is whole. `READY` can be checked without us: `sha256sum --check READY`.
"""

import contextlib
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cloister.errors import ModelStoreError
from cloister.modelstore import contents, guards, pins
from cloister.modelstore.pins import File, Pin

READY = "READY"
_STAGING = ".staging"
_CHUNK_BYTES = 1 << 20

State = Literal["ready", "partial", "damaged"]
Advance = Callable[[int], None]


@dataclass(frozen=True)
class Revision:
    """One revision in a store: `size` is in bytes, `detail` says what is wrong with a bad one."""

    model: str
    revision: str
    state: State
    size: int
    folder: Path
    detail: str = ""


class Store:
    """The models below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, model: str, revision: str) -> Path:
        """Return where a revision is, or would be."""
        return self.root / model / revision

    def staging(self, model: str, revision: str) -> Path:
        """Return where a revision is put together."""
        return self.root / _STAGING / f"{model.replace('/', '--')}-{revision}"

    @contextlib.contextmanager
    def alone(self, model: str, revision: str) -> Iterator[Path]:
        """Give the folder in which a revision is put together to one command at a time.

        Raises ModelStoreError when another one has it, and for links in the store: nothing is
        written, or removed, outside it.
        """
        staging, place = self.staging(model, revision), self.root / model
        lock = staging.with_name(f"{staging.name}.lock")
        for path in (staging.parent, lock, place, place.parent):
            if path != self.root and path.is_symlink():
                raise ModelStoreError(
                    f"`{path}` is a link; a model store has only folders and files",
                    hint=f"rm {path}, or set `model.store` to where it leads",
                )
        staging.parent.mkdir(parents=True, exist_ok=True)
        with guards.locked(lock, wait_s=0, busy=f"another download of `{model}` is under way"):
            if staging.is_symlink():
                staging.unlink()
            staging.mkdir(exist_ok=True)
            yield staging
            shutil.rmtree(staging, ignore_errors=True)  # after a success: empty, or renamed away

    def revisions(self) -> Iterator[Revision]:
        """Yield what is there, complete or not, without reading the weights."""
        for path in sorted(self.root.glob("*/*/*")) + sorted(self.root.glob("*/*")):
            model = str(path.parent.relative_to(self.root))
            if path.is_dir() and pins.REVISION.fullmatch(path.name) and pins.MODEL.fullmatch(model):
                yield self._revision(model, path)
        for path in sorted((self.root / _STAGING).glob("*/")):
            name, _, revision = path.name.rpartition("-")
            yield Revision(name.replace("--", "/"), revision, "partial", used(path), path)

    def require(self, model: str, revision: str) -> Pin:
        """Return what is locked of a revision that is there, as far as names and sizes tell.

        Raises ModelStoreError when it is not locked, a file is missing, has another size, is a
        link, or was not downloaded.
        """
        pin = self._pin(model, revision)
        folder = self.folder(model, revision)
        if folder.is_symlink():
            raise ModelStoreError(f"`{folder}` is a link; a model has only files")
        if not (folder / READY).is_file():
            raise ModelStoreError(f"`{folder}` is not complete: it has no {READY}")
        found = dict(_files(folder))
        for name, file in pin.files.items():
            if name not in found:
                raise ModelStoreError(f"`{folder}` lacks {name}")
            if found[name] != file.size:
                raise ModelStoreError(f"`{folder / name}` has {found[name]} bytes, not {file.size}")
        extra = sorted(found.keys() - pin.files.keys())
        if extra:
            raise ModelStoreError(f"`{folder / extra[0]}` was not downloaded; nothing may be added")
        return pin

    def verify(self, model: str, revision: str, advance: Advance = lambda _: None) -> Pin:
        """Compare every byte of a revision with the lock; needs no network.

        `advance` is told how many bytes more were read. Raises ModelStoreError as `require`, and
        when a file is not what was locked.
        """
        pin = self.require(model, revision)
        folder = self.folder(model, revision)
        for name, file in pin.files.items():
            if digest(folder / name, advance) != file.sha256:
                raise ModelStoreError(f"`{folder / name}` is not what was downloaded")
            contents.check(folder / name)
        return pin

    def remove(self, model: str, revision: str) -> int:
        """Remove a revision and what was staged of it, and return the bytes that it had.

        Raises ModelStoreError when it is being downloaded.
        """
        folder = self.folder(model, revision)
        with self.alone(model, revision) as staging:
            size = used(folder) + used(staging)
            if folder.is_symlink():
                folder.unlink()
            elif folder.exists():
                # READY first: what is left by an interruption must not look complete.
                (folder / READY).unlink(missing_ok=True)
                shutil.rmtree(folder)
            pins.remove(self.root, model, revision)
        return size

    def complete(self, pin: Pin) -> Path:
        """Give a staged revision its place, after its files were verified; return the folder."""
        staged = self.staging(pin.model, pin.revision)
        lines = [f"{file.sha256}  {name}\n" for name, file in sorted(pin.files.items())]
        write_synced(staged / READY, "".join(lines))
        for path in [staged, *staged.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)  # read by the engines' user
            sync(path)
        pins.add(self.root, pin)
        target = self.folder(pin.model, pin.revision)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            shutil.rmtree(target)
        staged.rename(target)
        for path in target.parents:
            sync(path)  # a new folder's own name too, and the lock's
            if path == self.root:
                break
        return target

    def _pin(self, model: str, revision: str) -> Pin:
        found = pins.find(self.root, model, revision)
        if found is None:
            raise ModelStoreError(
                f"`{model}` at {revision} is not in `{self.root / pins.FILE_NAME}`",
                hint=f"invoke download --model {model} --revision {revision}",
            )
        return found

    def _revision(self, model: str, folder: Path) -> Revision:
        try:
            self.require(model, folder.name)
        except ModelStoreError as error:
            return Revision(model, folder.name, "damaged", used(folder), folder, error.message)
        return Revision(model, folder.name, "ready", used(folder), folder)


def digest(path: Path, advance: Advance) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    hashed = hashlib.sha256()
    with contents.opened(path) as file:
        left = os.fstat(file.fileno()).st_size
        while chunk := file.read(min(left, _CHUNK_BYTES)):  # one that grows has an end too
            left -= len(chunk)
            hashed.update(chunk)
            advance(len(chunk))
    return hashed.hexdigest()


def used(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def sync(path: Path) -> None:
    """Write a file or a folder's entries to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_synced(path: Path, text: str) -> None:
    """Write a small file to the disk."""
    path.write_text(text, encoding="utf-8")
    sync(path)


def _files(folder: Path) -> Iterator[tuple[str, int]]:
    """Yield the names and sizes of a revision's files; raises ModelStoreError for other things."""
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        if stat.S_ISREG(status.st_mode):
            if path.name != READY or path.parent != folder:
                yield str(path.relative_to(folder)), status.st_size
        elif not stat.S_ISDIR(status.st_mode):
            raise ModelStoreError(f"`{path}` is a link or a device; a model has only files")


__all__ = ["READY", "File", "Revision", "Store", "digest", "sync", "used"]
