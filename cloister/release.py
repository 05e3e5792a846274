"""A release: checked, written wherever the version is said, committed and tagged; never pushed."""

import datetime as dt
import fnmatch
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from cloister import shell
from cloister.errors import ReleaseError
from cloister.files import write_atomically

BRANCH = "main"
# Wherever the version is said, and how; `{}` is the version. The first is where programs read it.
PLACES = {
    "cloister/__init__.py": r'^VERSION = "{}"$',
    "compose/*.yaml": r"CLOISTER_DOCKER_TAG:-{}\}",
    "docs/openapi.yaml": r"^  version: {}$",
    "docs/configuration.md": r"^\| `docker\.tag` \| `{}` ",
    "tests/unit/golden/cloister.yaml": r"^  #tag: {}$",
}
_VERSION, *_ = PLACES
_CHANGELOG, _IMAGES, _LOCK = "CHANGELOG.md", "images/images.yaml", "images/images.lock.yaml"
_NUMBER = r"(?:0|[1-9][0-9]*)"
_FORM = re.compile(rf"({_NUMBER})\.({_NUMBER})\.({_NUMBER})")
_NAMED = 3  # of the files in the way; more would not fit a line
_GIT_S = 600.0  # hooks and a passphrase take their time


@dataclass(frozen=True)
class Checkout:
    """What git says, for one release.

    `tagged` is the commit that the release's tag names, if there is one. `committed` are the files
    of HEAD that matter here; `changed` are those that differ from HEAD, as they are now, and None
    for one that is gone.
    """

    branch: str
    head: str
    subject: str
    tagged: str | None
    committed: Mapping[str, str]
    changed: Mapping[str, str | None]


@dataclass(frozen=True)
class Plan:
    """What is left to do: `files` to write and commit, and the tag unless it is `tagged`."""

    version: str
    files: Mapping[str, str]
    tagged: bool

    @property
    def tag(self) -> str:
        """The name of the tag."""
        return f"v{self.version}"

    @property
    def push(self) -> str:
        """The command that publishes it, for a person to type."""
        return f"git push --atomic origin {BRANCH} {self.tag}"

    @property
    def steps(self) -> list[str]:
        """What would be done, a line each."""
        commit = [f"git commit --message '{_subject(self.version)}'"] if self.files else []
        tag = [] if self.tagged else [f"git tag --annotate {self.tag}"]
        return [
            *(
                f"write {name}: {_headline(self.version, text)}"
                for name, text in self.files.items()
            ),
            *commit,
            *tag,
            f"left to you: {self.push}",
        ]


def today() -> dt.date:
    """Return the date of a release that is made now, the same for everybody."""
    return dt.datetime.now(dt.UTC).date()


def plan(version: str, checkout: Checkout, date: dt.date) -> Plan:
    """Return what is left to do for a release; pure.

    Of one that was interrupted this is the rest: files that were written as they would be now count
    as no change, and a commit that lacks its tag gets it. Raises ReleaseError for a version that
    cannot be, and for a checkout that cannot be released.
    """
    wanted = _numbers(version)
    present = _present(checkout)
    if checkout.branch != BRANCH:
        on = f"on `{checkout.branch}`" if checkout.branch else "on no branch"
        raise ReleaseError(f"this checkout is {on}; releases are made on `{BRANCH}`")
    began = (present, checkout.subject) == (version, _subject(version))
    if checkout.tagged is not None and not (began and checkout.tagged == checkout.head):
        raise ReleaseError(
            f"the tag v{version} exists, at {checkout.tagged[:12]}", hint="take the next version"
        )
    if began:
        _require_clean(checkout, {})
        return Plan(version, {}, tagged=checkout.tagged is not None)
    if wanted <= _numbers(present):
        raise ReleaseError(f"{version} is not larger than the present version, {present}")
    _require_locked(checkout.committed)
    written = checkout.changed.get(_CHANGELOG) or ""
    begun = re.search(rf"^## {re.escape(version)} - (\d{{4}}-\d\d-\d\d)$", written, re.MULTILINE)
    files = {
        **_renumbered(checkout.committed, present, version),
        _CHANGELOG: _dated(
            checkout.committed.get(_CHANGELOG, ""), version, begun[1] if begun else str(date)
        ),
    }
    _require_clean(checkout, files)
    return Plan(version, files, tagged=False)


def read(root: Path, version: str) -> Checkout:
    """Return what git says about the checkout at `root`; raises ReleaseError without one."""
    if shell.run(_git(root, "rev-parse", "--verify", "HEAD"), check=False).code != 0:
        raise ReleaseError(
            f"`{root}` is no git checkout with a commit", hint="release from a clone"
        )
    tagged = shell.run(
        _git(root, "rev-parse", "--verify", "--quiet", f"refs/tags/v{version}^{{commit}}"),
        check=False,
    ).stdout.strip()
    listed = _lines(root, "ls-tree", "-r", "-z", "--name-only", "HEAD")
    matter = [name for name in listed if _matters(name)]
    status = _lines(root, "status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all")
    return Checkout(
        branch=_said(root, "branch", "--show-current").strip(),
        head=_said(root, "rev-parse", "HEAD").strip(),
        subject=_said(root, "log", "-1", "--format=%s").strip(),
        tagged=tagged or None,
        committed={name: _said(root, "show", f"HEAD:{name}") for name in matter},
        changed={name: _now(root / name) for name in (line[3:] for line in status)},
    )


def make(root: Path, planned: Plan) -> Iterator[str]:
    """Do what is left to do, and tell each step that was done.

    Raises ReleaseError when git refuses; run again, it goes on from there.
    """
    # What a killed command leaves of a file would be a change; below .git it is none.
    staging = Path(_said(root, "rev-parse", "--absolute-git-dir").strip())
    for name, text in planned.files.items():
        if _now(root / name) != text:
            write_atomically(root / name, text, staging=staging)
    if planned.files:
        message = _subject(planned.version)
        _act(root, "commit", "--quiet", "--message", message, "--", *planned.files)
        yield f"committed `{message}`"
    if not planned.tagged:
        _act(root, "tag", "--annotate", "--message", f"Cloister {planned.version}", planned.tag)
        yield f"tagged {planned.tag}"
    yield "nothing was pushed; that is left to you:"


def _subject(version: str) -> str:
    return f"Release {version}"


def _headline(version: str, text: str) -> str:
    found = re.search(rf"^## {re.escape(version)} - .*$", text, re.MULTILINE)
    return f"`{found[0]}`" if found else version


def _numbers(version: str) -> tuple[int, ...]:
    found = _FORM.fullmatch(version)
    if found is None:
        raise ReleaseError(
            f"`{version}` is no version; expected three numbers", hint="invoke release 1.4.0"
        )
    return tuple(int(number) for number in found.groups())


def _present(checkout: Checkout) -> str:
    pattern = PLACES[_VERSION].replace("{}", f"({_FORM.pattern})")
    found = re.search(pattern, checkout.committed.get(_VERSION, ""), re.MULTILINE)
    if found is None:
        raise ReleaseError(f"`{_VERSION}` says no version of three numbers")
    return found[1]


def _require_clean(checkout: Checkout, files: Mapping[str, str]) -> None:
    # A file that is gone is None, and one that is not to be changed is no text.
    dirty = [name for name, text in checkout.changed.items() if text != files.get(name, object())]
    if dirty:
        more = f" and {len(dirty) - _NAMED} more" if len(dirty) > _NAMED else ""
        raise ReleaseError(
            f"there are changes that are not committed: {', '.join(dirty[:_NAMED])}{more}",
            hint="git status; commit them, or put them away by `git stash --include-untracked`",
        )


def _require_locked(committed: Mapping[str, str]) -> None:
    """Raise ReleaseError for a base of an image that the lock file, where there is one, lacks."""
    if _LOCK not in committed:
        return
    locked = yaml.safe_load(committed[_LOCK]) or {}
    entries = yaml.safe_load(committed.get(_IMAGES, "")) or {}
    for name, entry in entries.items():
        if entry["base"] not in locked and "@" not in entry["base"]:
            raise ReleaseError(
                f"`{_LOCK}` has no digest of `{entry['base']}`, the base of {name}",
                hint="invoke images.lock --update, and commit the file",
            )


def _renumbered(committed: Mapping[str, str], present: str, version: str) -> dict[str, str]:
    """Return the files that say the present version, with the new one."""
    files = {}
    for glob, said in PLACES.items():
        pattern = re.compile(said.replace("{}", re.escape(present)), re.MULTILINE)
        found = {
            name: pattern.sub(lambda match: match[0].replace(present, version), text)
            for name, text in committed.items()
            if fnmatch.fnmatchcase(name, glob) and pattern.search(text)
        }
        if not found:
            raise ReleaseError(
                f"`{glob}` does not say {present}, which is the version of `{_VERSION}`",
                hint="nox -s unit",
            )
        files.update(found)
    return files


def _dated(changelog: str, version: str, date: str) -> str:
    """Return the changelog with what was unreleased under the version, and nothing unreleased."""
    parts = re.split(r"^## Unreleased[ \t]*\n", changelog, flags=re.MULTILINE)
    if len(parts) != 2:  # noqa: PLR2004  # before and after
        raise ReleaseError(f"`{_CHANGELOG}` has not one heading `## Unreleased`")
    before, after = parts
    unreleased = re.split(r"^## ", after, maxsplit=1, flags=re.MULTILINE)[0]
    if not any(line.strip() and not line.startswith("#") for line in unreleased.splitlines()):
        raise ReleaseError(
            f"`{_CHANGELOG}` has nothing under Unreleased", hint="say there what users get"
        )
    if re.search(rf"^## {re.escape(version)}\b", changelog, re.MULTILINE):
        raise ReleaseError(f"`{_CHANGELOG}` has a heading `## {version}` already")
    return f"{before}## Unreleased\n\n## {version} - {date}\n{after}"


def _matters(name: str) -> bool:
    wanted = (*PLACES, _CHANGELOG, _IMAGES, _LOCK)
    return any(fnmatch.fnmatchcase(name, glob) for glob in wanted)


def _now(path: Path) -> str | None:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None


def _git(root: Path, *words: str) -> list[str]:
    # Who has signatures shown would get them before the subject.
    return ["git", "-C", str(root), "-c", "log.showSignature=false", *words]


def _said(root: Path, *words: str) -> str:
    return shell.run(_git(root, *words)).stdout


def _lines(root: Path, *words: str) -> list[str]:
    return [line for line in _said(root, *words).split("\0") if line]


def _act(root: Path, *words: str) -> None:
    done = shell.run(_git(root, *words), timeout_s=_GIT_S, check=False)
    if done.code != 0:
        said = (done.stderr or done.stdout).strip().splitlines() or ["nothing was said"]
        raise ReleaseError(
            f"`git {words[0]}` ended with code {done.code}: {said[-1]}",
            hint="mend that and run the same command again; it goes on from there",
        )
