"""A folder that may come from a stranger, held open: nothing in it leads out of it.

Every path below it is opened part by part, by descriptors and through no link, as `openat2` does
with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS, which Python does not offer. So what another program
puts in the place of a folder between two steps is not followed either. Standard library only.
"""

import contextlib
import errno
import os
import pwd
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import BinaryIO, Self

from cloister.errors import CloisterError
from cloister.sockets import remove_below

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
# Without O_NONBLOCK a pipe waits for somebody who writes into it.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a link",
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a pipe",
}
_Refusal = type[CloisterError]
_Path = PurePath | str
PRIVATE = 0o600
_SHOWN = 300  # characters of a path
_ANY = 0o666  # less the umask
_GONE = contextlib.suppress(FileNotFoundError)
_LOOK = "`ls -ld` shows what is there and whose: remove it, or use another folder"
_COPY = "a copy is yours alone: cp -r FOLDER COPY, and use that"


def shown(path: PurePath) -> str:
    """Return a path as text that may be printed: names have bytes that are none, and worse."""
    text = "".join(sign if sign.isprintable() else "\ufffd" for sign in str(path))
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]}...{text[-_SHOWN // 2 :]}"


class Folder(contextlib.AbstractContextManager["Folder"]):
    """A folder that is held open; `path` is its name for people.

    Paths are relative to it. `refusal` is the error that everything raises for what is not as it
    has to be: a path that leads out of the folder, a link, a folder or file of another user than
    this one and root, anything but a regular file, and whatever the file system does not do.
    """

    def __init__(self, place: int, path: Path, refusal: _Refusal) -> None:
        self._place, self.path, self._refusal = place, path, refusal

    @classmethod
    def open(cls, path: Path, refusal: _Refusal, *, make: bool = False) -> Self:
        """Return the folder that a user named, by links or not; it has to be this user's."""
        try:
            if make:
                path.mkdir(parents=True, exist_ok=True)
            place = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise _unusable(refusal, path, "made" if make else "opened", error) from error
        folder = cls(place, path, refusal)
        try:
            folder._require_owner(os.fstat(place), PurePath())
        except BaseException:
            os.close(place)
            raise
        return folder

    def __exit__(self, *_: object) -> None:
        """Let go of the folder."""
        os.close(self._place)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._place

    def sub(self, path: _Path, *, make: bool = False) -> Self:
        """Return a folder below this one, which has to be there unless it is made."""
        with self._explained(path, "opened"):
            place = self._enter(self._parts(path), make=make)
        return type(self)(place, self.path / path, self._refusal)

    def address(self, name: str) -> Path:
        """Return the path of a file in it for a library, which must not follow its last part."""
        return Path(f"/proc/self/fd/{self._place}/{name}")

    def find(self, path: _Path) -> os.stat_result | None:
        """Return what is known of a file, folder or link, None where nothing has that name."""
        with _GONE, self._held(path, "looked at", gone_too=False) as (place, name):
            return os.stat(name, dir_fd=place, follow_symlinks=False)
        return None

    def has_own_file(self, path: _Path) -> bool:
        """Return whether a file is there to be opened in place; it has to be ours alone.

        One of two names may be another file of this user's, of which the maker of the folder knew.
        """
        about = self.find(path)
        if about is None:
            return False
        self._require_file(about, path)
        self._require_owner(about, path)
        if about.st_nlink != 1:
            raise self._error(path, f"has {about.st_nlink} names (hard links)", "one", _COPY)
        return True

    def names(self, *, most: int = 100_000) -> list[str]:
        """Return the names of what lies in it, sorted."""
        found = list[str]()
        with self._explained(PurePath(), "listed"), os.scandir(self._place) as entries:
            for entry in entries:
                found.append(entry.name)
                if len(found) > most:
                    raise self._error(PurePath(), "has more entries", f"{most:,} at most")
        return sorted(found)

    @contextlib.contextmanager
    def reading(self, path: _Path, most_bytes: int) -> Iterator[BinaryIO]:
        """Open a regular file of at most so many bytes; it may grow while it is read."""
        wanted = PurePath(path)
        with (
            self._held(wanted, "read") as (place, name),
            os.fdopen(os.open(name, _READ, dir_fd=place), "rb") as opened,
        ):
            about = os.fstat(opened.fileno())
            self._require_file(about, wanted)
            if about.st_size > most_bytes:
                raise self._too_large(wanted, most_bytes)
            yield opened

    def read(self, path: _Path, most_bytes: int) -> bytes:
        """Return the content of a regular file, of at most so many bytes."""
        with self.reading(path, most_bytes) as file:
            content = file.read(most_bytes + 1)
        if len(content) > most_bytes:
            raise self._too_large(PurePath(path), most_bytes)
        return content

    def write(
        self,
        path: _Path,
        content: str | bytes,
        *,
        mode: int = _ANY,
        staging: "Folder | None" = None,
    ) -> None:
        """Write a file whole or not at all, in folders that are made; the umask limits its mode.

        `staging` is a folder on the same file system to write in, so that what a killed program
        leaves is not among the files. What has the name already has to be a file: it is replaced,
        and not followed.
        """
        wanted = PurePath(path)
        binary = content.encode() if isinstance(content, str) else content
        with self._held(wanted, "written", make=True) as (place, name):
            with _GONE:
                self._require_file(os.stat(name, dir_fd=place, follow_symlinks=False), wanted)
            scratch = place if staging is None else staging.fileno()
            temporary = f".{secrets.token_hex(8)}"
            try:
                with os.fdopen(os.open(temporary, _NEW, mode, dir_fd=scratch), "wb") as opened:
                    opened.write(binary)
                    opened.flush()
                    os.fsync(opened.fileno())
                os.rename(temporary, name, src_dir_fd=scratch, dst_dir_fd=place)
            except BaseException:
                # Ctrl-C may come right after the rename, and must not become an OSError.
                with _GONE:
                    os.unlink(temporary, dir_fd=scratch)
                raise

    def remove(self, path: _Path) -> bool:
        """Remove a file or a link; return whether it was there."""
        with _GONE, self._held(path, "removed", gone_too=False) as (place, name):
            os.unlink(name, dir_fd=place)
            return True
        return False

    def remove_empty(self, path: _Path) -> None:
        """Remove a folder, unless something is in it."""
        with _GONE, self._held(path, "removed", gone_too=False) as (place, name):
            try:
                os.rmdir(name, dir_fd=place)
            except OSError as error:
                if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                    raise

    def remove_tree(self, path: _Path) -> None:
        """Remove a folder with all that is in it, and nothing that a link in it leads to."""
        wanted = PurePath(path)
        with _GONE, self._held(wanted, "removed", gone_too=False) as (place, name):
            inner = self._step(place, name, wanted, make=False)
            try:
                remove_below(inner)
            finally:
                os.close(inner)
            os.rmdir(name, dir_fd=place)

    @contextlib.contextmanager
    def _held(
        self, path: _Path, what: str, *, make: bool = False, gone_too: bool = True
    ) -> Iterator[tuple[int, str]]:
        """Hold the folder in which a path's last part is; `gone_too` as `_explained`."""
        *folders, name = self._parts(path)
        with self._explained(path, what, gone_too=gone_too):
            place = self._enter(folders, make=make)
            try:
                yield place, name
            finally:
                os.close(place)

    def _enter(self, parts: list[str], *, make: bool) -> int:
        """Return a descriptor of a folder below this one; raises OSError where none is."""
        place = os.dup(self._place)
        for number, part in enumerate(parts, 1):
            try:
                inner = self._step(place, part, PurePath(*parts[:number]), make=make)
            finally:
                os.close(place)
            place = inner
        return place

    def _step(self, place: int, part: str, path: PurePath, *, make: bool) -> int:
        if make:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, dir_fd=place)
        try:
            inner = os.open(part, _FOLDER, dir_fd=place)
        except OSError as error:
            if error.errno not in {errno.ENOTDIR, errno.ELOOP}:
                raise
            about = os.stat(part, dir_fd=place, follow_symlinks=False)
            raise self._error(path, f"is {_kind(about)}", "a folder") from error
        try:
            self._require_owner(os.fstat(inner), path)
        except BaseException:
            os.close(inner)
            raise
        return inner

    def _parts(self, wanted: _Path) -> list[str]:
        """Return the parts of a path that stays below the folder."""
        path = PurePath(wanted)
        parts = list(path.parts)
        try:
            odd = "\0" in str(path) or not os.fsencode(path)
        except UnicodeEncodeError:
            odd = True
        if odd or path.is_absolute() or ".." in parts or not parts:
            where = f"`{shown(path)}` is no path below `{shown(self.path)}`"
            raise self._refusal(f"{where}: expected names without `..` and NUL", hint=_LOOK)
        return parts

    def _require_file(self, about: os.stat_result, path: _Path) -> None:
        if not stat.S_ISREG(about.st_mode):
            raise self._error(path, f"is {_kind(about)}", "a file")

    def _require_owner(self, about: os.stat_result, path: _Path) -> None:
        if about.st_uid not in {os.geteuid(), 0}:
            expected = f"{_user(os.geteuid())} or root"
            raise self._error(path, f"belongs to {_user(about.st_uid)}", expected, _COPY)

    def _too_large(self, path: PurePath, most_bytes: int) -> CloisterError:
        return self._error(path, "is larger", f"{most_bytes:,} bytes at most")

    def _error(self, path: _Path, found: str, expected: str, hint: str = _LOOK) -> CloisterError:
        told = f"`{shown(self.path / path)}` {found}, expected {expected}; nothing of it was used"
        return self._refusal(told, hint=hint)

    @contextlib.contextmanager
    def _explained(self, path: _Path, what: str, *, gone_too: bool = True) -> Iterator[None]:
        """Turn an OSError into the refusal; FileNotFoundError only if `gone_too`."""
        try:
            yield
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not gone_too:
                raise
            raise _unusable(self._refusal, self.path / path, what, error) from error


def _unusable(refusal: _Refusal, path: PurePath, what: str, error: OSError) -> CloisterError:
    hint = "free some space" if error.errno in {errno.ENOSPC, errno.EDQUOT} else _LOOK
    return refusal(f"`{shown(path)}` cannot be {what}: {error.strerror}", hint=hint)


def _kind(about: os.stat_result) -> str:
    return _KINDS.get(stat.S_IFMT(about.st_mode), "a device")


def _user(number: int) -> str:
    with contextlib.suppress(KeyError):
        return f"`{pwd.getpwuid(number).pw_name}`"
    return f"user {number}"
