"""The whole way of a revision: resolve, make sure of room, fetch, look inside, lock, rename."""

import datetime as dt
import errno
import os
import shutil
import stat
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub.utils import close_session  # type: ignore[attr-defined]

from cloister.downloader.asking import Patience
from cloister.downloader.hub import Card, Hub, Remote
from cloister.downloader.transfer import PART, Source, fetch
from cloister.errors import ModelStoreError
from cloister.modelstore import contents, pins, sanity
from cloister.modelstore.pins import File, Pin
from cloister.modelstore.store import READY, Store

_STREAMS = 4
_STOP_S = 5.0  # for streams to notice that another one failed
_HEADROOM_BYTES = 64 << 20  # what a file system keeps for itself


@dataclass(frozen=True)
class Progress:
    """What is told on the way: the bytes of everything, then how many more are there."""

    total: Callable[[int], object]
    advance: Callable[[int], object]
    say: Callable[[str], None]


def download(
    hub: Hub, store: Store, model: str, revision: str, patience: Patience, progress: Progress
) -> Pin:
    """Bring `model` at `revision`, a branch, tag or commit, into the store, and lock it.

    What an earlier run brought is taken over, whether it was killed or refused. Raises
    ModelStoreError when the model cannot be had, does not fit, or is not what it has to be.
    """
    if not pins.MODEL.fullmatch(model):
        raise ModelStoreError(f"`{model}` is no model's name, such as nanonets/Nanonets-OCR2-3B")
    try:
        return _brought(hub, store, model, revision, patience, progress)
    except OSError as error:
        raise ModelStoreError(
            f"`{error.filename or store.root}` cannot be written: {error.strerror or error}",
            hint=f"let user {os.getuid()} write to `{store.root}`, or set `model.store`",
        ) from error


def _brought(
    hub: Hub, store: Store, model: str, revision: str, patience: Patience, progress: Progress
) -> Pin:
    if (there := _there(store, model, revision)) is not None:
        progress.say(f"{model} at {revision} is there, every byte of it")
        return there
    card = hub.card(model, revision)
    if pins.REVISION.fullmatch(revision) and card.commit != revision:
        raise ModelStoreError(f"the hub answers {card.commit} to whoever asks for {revision}")
    _require_writable(store, model)
    with store.alone(model, card.commit) as staging:
        locked = pins.find(store.root, model, card.commit)
        if (there := _there(store, model, card.commit)) is not None:
            progress.say(f"{model} at {card.commit} is there, every byte of it")
            return there
        _take_over(store, model, card.commit)
        files = hub.files(model, card.commit)
        _require_pinned(files, locked)
        _tidy(staging, files)
        _require_room(staging, files)
        progress.total(sum(file.size for file in files))
        source = Source(hub, model, card.commit, patience)
        pin = _fetched(source, files, staging, progress, card)
        if locked and pin.files != locked.files:
            raise _changed(locked)
        store.complete(pin)
        return pin


def _there(store: Store, model: str, commit: str) -> Pin | None:
    """Return what is locked of a commit that needs no hub any more."""
    try:
        pin = store.verify(model, commit)
    except ModelStoreError:
        return None
    if pins.find(store.root, model) != pin:
        pins.add(store.root, pin)  # the one that is served is the one that was asked for last
    return pin


def _require_writable(store: Store, model: str) -> None:
    """Require that the model can have its place at the end, before it is fetched."""
    for folder in (store.root, store.root / model):
        there = next(path for path in (folder, *folder.parents) if path.exists())
        usable = os.access(there, os.W_OK | os.X_OK)
        code = errno.ENOTDIR if not there.is_dir() else 0 if usable else errno.EACCES
        if code:
            raise OSError(code, os.strerror(code), str(there))


def _take_over(store: Store, model: str, commit: str) -> None:
    """Stage what is left of a damaged revision, so that only what is wrong comes again."""
    folder, staging = store.folder(model, commit), store.staging(model, commit)
    if folder.is_symlink():
        folder.unlink()  # what it leads to is not ours to change
    elif folder.exists():
        (folder / READY).unlink(missing_ok=True)
        shutil.rmtree(staging)
        folder.rename(staging)


def _require_pinned(files: Sequence[Remote], locked: Pin | None) -> None:
    if locked is None:
        return
    sizes = {file.name: file.size for file in files}
    hashes = {file.name: file.sha256 for file in files if file.sha256}
    if sizes != {name: file.size for name, file in locked.files.items()} or any(
        locked.files[name].sha256 != sha256 for name, sha256 in hashes.items()
    ):
        raise _changed(locked)


def _changed(locked: Pin) -> ModelStoreError:
    return ModelStoreError(
        f"the hub has other bytes for {locked.model} at {locked.revision} than "
        f"{pins.FILE_NAME} says since {locked.date}; nothing was taken",
        hint="find out who changed them; only then take the entry out of that file",
    )


def _tidy(staging: Path, files: Sequence[Remote]) -> None:
    """Remove what does not belong: other files, links, which would be written through, and pipes.

    Reading a pipe would wait for somebody who writes into it.
    """
    known = {file.name for file in files} | {file.name + PART for file in files}
    for path in sorted(staging.rglob("*"), reverse=True):
        kind = path.lstat().st_mode
        is_known = stat.S_ISREG(kind) and str(path.relative_to(staging)) in known
        if not is_known and not stat.S_ISDIR(kind):
            path.unlink()


def _require_room(staging: Path, files: Sequence[Remote]) -> None:
    there = sum(path.stat().st_size for path in staging.rglob("*") if path.is_file())
    needed = sum(file.size for file in files) - there
    free = shutil.disk_usage(staging).free
    if needed > 0 and free < needed + min(_HEADROOM_BYTES, needed):
        raise ModelStoreError(
            f"`{staging.parent.parent}` has {free / 1e9:.2f} GB free, and {needed / 1e9:.2f} GB "
            "have still to come",
            hint="make room, or set `model.store`",
        )


def _fetch_all(
    source: Source, files: Sequence[Remote], staging: Path, progress: Progress
) -> dict[str, File]:
    """Fetch files side by side; the first that fails ends all."""
    threads = ThreadPoolExecutor(_STREAMS, thread_name_prefix="fetch")
    pending = {
        threads.submit(fetch, source, file, staging, progress.advance): file.name for file in files
    }
    found = {}
    try:
        for future in as_completed(pending, timeout=source.left_s()):
            found[pending[future]] = future.result()
    except Exception:
        source.stopped.set()
        close_session()
        wait(pending, timeout=_STOP_S)  # no longer: a stream may hang in a silent connection
        source.hub.left_s()  # which says so when time was up
        raise
    finally:
        threads.shutdown(wait=False, cancel_futures=True)  # Ctrl-C waits for nobody
    return found


def _fetched(
    source: Source, files: Sequence[Remote], staging: Path, progress: Progress, card: Card
) -> Pin:
    """Fetch the small files first, so that a wrong model is refused before its weights come."""
    small = [file for file in files if not file.name.endswith(".safetensors")]
    large = [file for file in files if file.name.endswith(".safetensors")]
    found: dict[str, File] = {}
    for group in (small, large):
        found |= _fetch_all(source, group, staging, progress)
        for file in group:
            contents.check(staging / file.name)
        if group is small:
            sanity.require_architecture(staging)
    today = dt.datetime.now(dt.UTC).date().isoformat()
    return Pin(
        source.model,
        source.commit,
        card.licence,
        card.base_model,
        today,
        dict(sorted(found.items())),
    )
