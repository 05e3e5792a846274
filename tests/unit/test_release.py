"""A release: planned without touching anything, then made in real git repositories."""

import datetime as dt
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import cloister
from cloister import release
from cloister.errors import ReleaseError
from cloister.release import Checkout

ROOT = Path(__file__).parents[2]
DAY = dt.date(2026, 11, 27)
CHANGELOG = (
    "# Changelog\n\n## Unreleased\n\n### Added\n\n- A thing.\n\n## 0.0.9 - 2026-01-01\n\n- Old.\n"
)
FILES = {
    "CHANGELOG.md": CHANGELOG,
    "cloister/__init__.py": '"""0.1.0 is named here too."""\n\nVERSION = "0.1.0"\n',
    "compose/compose.yaml": "a: ${CLOISTER_DOCKER_TAG:-0.1.0}\nb: ${CLOISTER_DOCKER_TAG:-0.1.0}\n",
    "compose/engine.yaml": "nothing: 0.1.0\n",
    "compose/tesseract.yaml": "a: ${CLOISTER_DOCKER_TAG:-0.1.0}-model\n",
    "docs/configuration.md": "| `docker.tag` | `0.1.0` | `CLOISTER_DOCKER_TAG` |\n",
    "docs/openapi.yaml": "info:\n  version: 0.1.0\n",
    "images/images.yaml": "gateway: {base: 'debian:trixie-slim'}\n",
    "tests/unit/golden/cloister.yaml": "#docker:\n  #tag: 0.1.0\n",
}


def checkout(
    files: Mapping[str, str] = FILES,
    *,
    branch: str = "main",
    subject: str = "A change",
    tagged: str | None = None,
    changed: Mapping[str, str | None] | None = None,
) -> Checkout:
    return Checkout(branch, "abc", subject, tagged, files, changed or {})


def test_everything_that_says_the_version_is_changed_and_nothing_else() -> None:
    files = release.plan("0.2.0", checkout(), DAY).files
    assert set(files) == set(FILES) - {"compose/engine.yaml", "images/images.yaml"}
    assert files["cloister/__init__.py"] == '"""0.1.0 is named here too."""\n\nVERSION = "0.2.0"\n'
    assert files["compose/compose.yaml"].count("CLOISTER_DOCKER_TAG:-0.2.0}") == 2
    for name in set(files) - {"CHANGELOG.md", "cloister/__init__.py"}:
        assert files[name] == FILES[name].replace("0.1.0", "0.2.0"), name


def test_the_changelog_is_dated_and_an_empty_unreleased_stays() -> None:
    assert release.plan("0.2.0", checkout(), DAY).files["CHANGELOG.md"] == CHANGELOG.replace(
        "## Unreleased\n", "## Unreleased\n\n## 0.2.0 - 2026-11-27\n"
    )


def test_the_steps_are_told() -> None:
    steps = release.plan("0.2.0", checkout(), DAY).steps
    assert "write CHANGELOG.md: `## 0.2.0 - 2026-11-27`" in steps
    assert "write docs/openapi.yaml: 0.2.0" in steps
    assert steps[-3:] == [
        "git commit --message 'Release 0.2.0'",
        "git tag --annotate v0.2.0",
        "left to you: git push --atomic origin main v0.2.0",
    ]


@pytest.mark.parametrize(
    "version",
    ["0.2", "v0.2.0", "0.2.0rc1", "0.02.0", "0.2.0\n", "", "0.2.0.1", "0.1\u0662.0", "--a"],
)
def test_a_version_has_three_numbers(version: str) -> None:
    with pytest.raises(ReleaseError, match="is no version"):
        release.plan(version, checkout(), DAY)


@pytest.mark.parametrize("version", ["0.1.0", "0.0.9", "0.0.10"])
def test_a_version_is_larger_than_the_present_one(version: str) -> None:
    with pytest.raises(ReleaseError, match=r"not larger than the present version, 0\.1\.0"):
        release.plan(version, checkout(), DAY)


@given(st.tuples(*[st.integers(0, 30)] * 3))
def test_versions_are_compared_as_numbers(numbers: tuple[int, int, int]) -> None:
    version = ".".join(map(str, numbers))
    present = {name: text.replace("0.1.0", "9.10.11") for name, text in FILES.items()}
    if numbers > (9, 10, 11):
        assert release.plan(version, checkout(present), DAY).version == version
    else:
        with pytest.raises(ReleaseError):
            release.plan(version, checkout(present), DAY)


@pytest.mark.parametrize(("branch", "words"), [("feature", "`feature`"), ("", "no branch")])
def test_releases_are_made_on_main(branch: str, words: str) -> None:
    with pytest.raises(ReleaseError, match=words):
        release.plan("0.2.0", checkout(branch=branch), DAY)


def test_a_tag_that_exists_is_refused() -> None:
    with pytest.raises(ReleaseError, match=r"v0\.2\.0 exists, at 123456789012"):
        release.plan("0.2.0", checkout(tagged="1234567890123"), DAY)


@pytest.mark.parametrize(
    ("changelog", "words"),
    [
        ("# Changelog\n\n## Unreleased\n\n### Added\n\n## 0.0.9\n\n- Old.\n", "nothing under"),
        ("# Changelog\n\n## Unreleased\n", "nothing under"),
        ("# Changelog\n\n- A thing.\n", "has not one heading"),
        (f"{CHANGELOG}\n## Unreleased\n\n- B.\n", "has not one heading"),
        (f"{CHANGELOG}\n## 0.2.0 - 2026-01-01\n", r"heading `## 0\.2\.0` already"),
    ],
)
def test_a_changelog_that_cannot_be_released(changelog: str, words: str) -> None:
    with pytest.raises(ReleaseError, match=words):
        release.plan("0.2.0", checkout({**FILES, "CHANGELOG.md": changelog}), DAY)


def test_a_place_that_says_another_version_is_told() -> None:
    with pytest.raises(ReleaseError, match=r"`docs/openapi\.yaml` does not say 0\.1\.0"):
        release.plan("0.2.0", checkout({**FILES, "docs/openapi.yaml": "  version: 0.0.9\n"}), DAY)


def test_every_base_is_locked_where_there_is_a_lock() -> None:
    lock = "debian:trixie-slim: {digest: 'sha256:00', date: 2026-11-27}\n"
    release.plan("0.2.0", checkout({**FILES, "images/images.lock.yaml": lock}), DAY)
    images = (
        f"{FILES['images/images.yaml']}own: {{base: 'own@sha256:11'}}\nvllm: {{base: 'vllm:1'}}\n"
    )
    files = {**FILES, "images/images.yaml": images, "images/images.lock.yaml": lock}
    with pytest.raises(ReleaseError, match="no digest of `vllm:1`, the base of vllm"):
        release.plan("0.2.0", checkout(files), DAY)


@pytest.mark.parametrize(
    "changed", [{"new": "text"}, {"docs/openapi.yaml": None}, {"docs/openapi.yaml": "other"}]
)
def test_a_change_that_is_not_of_the_release_is_refused(changed: dict[str, str | None]) -> None:
    with pytest.raises(ReleaseError, match="not committed"):
        release.plan("0.2.0", checkout(changed=changed), DAY)


def test_only_three_changes_are_named() -> None:
    changed = dict.fromkeys("abcde", "")
    with pytest.raises(ReleaseError, match="a, b, c and 2 more"):
        release.plan("0.2.0", checkout(changed=changed), DAY)


def test_files_that_were_written_before_keep_the_day_on_which_that_was() -> None:
    first = release.plan("0.2.0", checkout(), DAY)
    then = checkout(changed={"CHANGELOG.md": first.files["CHANGELOG.md"]})
    assert release.plan("0.2.0", then, DAY + dt.timedelta(days=1)) == first


# From here on with git.


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkout with one commit, of which git knows nothing but what is said here."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "A Person")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "person@example.org")
    # Not pytest's own folder: a state folder's path has room for 80 bytes.
    with tempfile.TemporaryDirectory(prefix="cloister-") as folder:
        root = Path(folder) / "checkout"
        for name, text in FILES.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        git(root, "init", "--quiet", "--initial-branch=main")
        commit(root)
        yield root


def git(root: Path, *words: str) -> str:
    command = ["git", "-C", str(root), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(root: Path) -> None:
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "A change")


def released(root: Path, version: str = "0.2.0", date: dt.date = DAY) -> list[str]:
    return list(release.make(root, release.plan(version, release.read(root, version), date)))


def refuse(root: Path, hook: str, script: str) -> Path:
    """Let git refuse something; what it returns is to be removed."""
    path = root / ".git" / "hooks" / hook
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def is_whole(root: Path) -> None:
    """Assert that the release was made, once."""
    assert git(root, "status", "--porcelain") == ""
    assert git(root, "log", "--format=%s") == "Release 0.2.0\nA change"
    assert git(root, "cat-file", "-t", "v0.2.0") == "tag", "annotated"
    assert git(root, "rev-parse", "v0.2.0^{commit}") == git(root, "rev-parse", "HEAD")
    assert 'VERSION = "0.2.0"' in git(root, "show", "HEAD:cloister/__init__.py")
    assert "## 0.2.0 - 2026-11-27" in git(root, "show", "HEAD:CHANGELOG.md")


def test_a_release_is_a_commit_and_an_annotated_tag(repository: Path) -> None:
    said = released(repository)
    is_whole(repository)
    assert said[:2] == ["committed `Release 0.2.0`", "tagged v0.2.0"]
    assert (repository / "cloister" / "__init__.py").stat().st_mode & 0o777 == 0o644


def test_to_plan_changes_nothing(repository: Path) -> None:
    release.plan("0.2.0", release.read(repository, "0.2.0"), DAY)
    assert git(repository, "status", "--porcelain") == ""
    assert git(repository, "log", "--format=%s") == "A change"
    assert git(repository, "tag") == ""


def test_a_second_run_of_a_whole_release_changes_nothing(repository: Path) -> None:
    released(repository)
    head = git(repository, "rev-parse", "v0.2.0")
    plan = release.plan("0.2.0", release.read(repository, "0.2.0"), DAY)
    assert plan.steps == [f"left to you: {plan.push}"]
    released(repository)
    assert git(repository, "rev-parse", "v0.2.0") == head
    is_whole(repository)


def test_the_next_release_is_larger(repository: Path) -> None:
    released(repository)
    (repository / "CHANGELOG.md").write_text(
        (repository / "CHANGELOG.md").read_text().replace("Unreleased\n", "Unreleased\n\n- B.\n")
    )
    commit(repository)
    with pytest.raises(ReleaseError, match="exists"):
        released(repository, "0.2.0")
    released(repository, "0.10.0")
    assert git(repository, "tag") == "v0.10.0\nv0.2.0"


@pytest.mark.parametrize("count", range(len(FILES) - 2))
def test_one_that_was_killed_among_its_files_goes_on(repository: Path, count: int) -> None:
    plan = release.plan("0.2.0", release.read(repository, "0.2.0"), DAY)
    for name in list(plan.files)[:count]:
        (repository / name).write_text(plan.files[name])
    if count % 2:  # and git had begun
        git(repository, "add", "--update")
    # If the changelog was among them the day stays that on which it was written.
    released(repository, date=DAY)
    is_whole(repository)


def test_one_whose_commit_was_refused_goes_on_the_next_day(repository: Path) -> None:
    hook = refuse(repository, "pre-commit", "echo not today >&2; exit 1")
    with pytest.raises(ReleaseError, match=r"`git commit` ended with code 1: not today"):
        released(repository)
    assert git(repository, "log", "--format=%s") == "A change"
    hook.unlink()
    released(repository, date=DAY + dt.timedelta(days=1))
    is_whole(repository)


def test_one_whose_tag_was_refused_gets_the_tag_alone(repository: Path) -> None:
    hook = refuse(repository, "reference-transaction", "! grep -q refs/tags/")
    with pytest.raises(ReleaseError, match="`git tag` ended with code"):
        released(repository)
    assert git(repository, "tag") == ""
    hook.unlink()
    assert released(repository)[0] == "tagged v0.2.0"
    is_whole(repository)


def test_what_came_after_the_commit_is_not_tagged(repository: Path) -> None:
    released(repository)
    git(repository, "tag", "--delete", "v0.2.0")
    (repository / "notes.txt").write_text("mine")
    with pytest.raises(ReleaseError, match=r"notes\.txt"):
        released(repository)
    commit(repository)
    with pytest.raises(ReleaseError, match="not larger"):
        released(repository)
    assert git(repository, "tag") == ""


def test_a_release_commit_that_is_another_than_the_tagged_one_is_refused(repository: Path) -> None:
    released(repository)
    git(repository, "commit", "--quiet", "--amend", "--no-edit", "--author=Another <a@example.org>")
    with pytest.raises(ReleaseError, match=r"v0\.2\.0 exists"):
        released(repository)


def test_what_a_killed_command_left_of_a_file_is_in_nobodys_way(repository: Path) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fchmod", killed)
        patch.setattr(Path, "unlink", lambda *_, **__: None)  # as after SIGKILL
        with pytest.raises(KeyboardInterrupt):
            released(repository)
    left = [path for path in (repository / ".git").glob("tmp*") if path.is_file()]
    assert left, "nothing was left, and nothing tested"
    released(repository)
    is_whole(repository)


def test_an_untracked_file_is_a_change(repository: Path) -> None:
    (repository / "notes.txt").write_text("mine")
    with pytest.raises(ReleaseError, match=r"notes\.txt") as caught:
        released(repository)
    assert caught.value.hint is not None
    assert "git stash" in caught.value.hint


def test_a_change_of_a_file_that_is_to_be_written_is_not_lost(repository: Path) -> None:
    (repository / "docs" / "openapi.yaml").write_text("mine")
    with pytest.raises(ReleaseError, match=r"docs/openapi\.yaml"):
        released(repository)
    assert (repository / "docs" / "openapi.yaml").read_text() == "mine"


def test_a_file_of_an_odd_name_is_named(repository: Path) -> None:
    (repository / "ein Bild → ä.png").write_text("mine")
    with pytest.raises(ReleaseError, match=r"ein Bild → ä\.png"):
        released(repository)


def test_a_tag_elsewhere_and_a_detached_head_are_refused(repository: Path) -> None:
    git(repository, "tag", "v0.2.0")
    with pytest.raises(ReleaseError, match="exists"):
        released(repository)
    git(repository, "checkout", "--quiet", "--detach")
    with pytest.raises(ReleaseError, match="no branch"):
        released(repository, "0.3.0")


def test_a_folder_without_a_commit_is_no_checkout(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="no git checkout"):
        release.read(tmp_path, "0.2.0")


# And of this project.


def test_the_project_says_one_version_in_every_place() -> None:
    files = {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
        for glob in release.PLACES
        for path in ROOT.glob(glob)
    }
    files["CHANGELOG.md"] = CHANGELOG
    numbers = cloister.VERSION.split(".")
    larger = f"{int(numbers[0]) + 1}.0.0"
    changed = release.plan(larger, checkout(files), DAY).files
    assert set(changed) >= {"cloister/__init__.py", "docs/openapi.yaml", "compose/compose.yaml"}


def test_no_other_file_names_an_image_or_a_program_of_this_version() -> None:
    said = re.compile(rf"cloister[\w./-]*[:@ =]v?{re.escape(cloister.VERSION)}\b", re.IGNORECASE)
    listed = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    # What was measured with a version, and what is only read, stays as it is.
    programs = [
        ROOT / name
        for name in listed
        if not name.startswith(("docs/benchmarks/", "tests/")) and not name.endswith(".md")
    ]
    texts = {path: _text(path) for path in programs if path.is_file()}
    assert len(texts) > 100, "git lists the project's files"
    assert [path for path, text in texts.items() if said.search(text)] == []


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def test_the_command_releases_a_copy_of_the_project(repository: Path) -> None:
    parts = ("cloister", "compose", "docs", "images", "nginx-config", "profiles", "tasks", "tests")
    for name in (*parts, "tuned"):
        shutil.copytree(ROOT / name, repository / name, dirs_exist_ok=True, ignore=_heavy)
    for name in ("pyproject.toml", ".gitignore"):
        shutil.copy(ROOT / name, repository / name)
    _lock_all(repository / "images")
    commit(repository)
    before = git(repository, "rev-parse", "HEAD")
    told = run(repository, "invoke", "release", "987.65.43", "--dry-run")
    assert "git tag --annotate v987.65.43" in told.splitlines()
    assert git(repository, "rev-parse", "HEAD") == before
    pushes = "git push --atomic origin main v987.65.43\n"
    assert run(repository, "invoke", "release", "987.65.43") == pushes
    assert git(repository, "status", "--porcelain") == ""
    knowing = (
        "test_config.py",
        "test_docker.py::test_the_compose_files_name_the_version_that_is_built",
        "test_openapi.py::test_it_is_an_openapi_document",
    )
    tests = (f"tests/unit/{name}" for name in knowing)
    run(repository, "pytest", "-q", "-p", "no:cacheprovider", *tests)
    refused = run(repository, "invoke", "release", "1.0.0", code=15)
    assert refused.splitlines() == [
        "error: 1.0.0 is not larger than the present version, 987.65.43"
    ]


def run(folder: Path, *words: str, code: int = 0) -> str:
    """Return what a Python program says, of an error what it says of that."""
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stderr if code else done.stdout


def _heavy(folder: str, names: list[str]) -> set[str]:
    suites = {"stack", "docker", "clients"} if Path(folder) == ROOT / "tests" else set()
    return {"benchmarks", "__pycache__", *suites} & set(names)


def _lock_all(folder: Path) -> None:
    """Lock the bases that nobody locked yet, as `invoke images.lock --update` would."""
    lock = folder / "images.lock.yaml"
    locked = (yaml.safe_load(lock.read_text()) if lock.exists() else None) or {}
    bases = [
        entry["base"] for entry in yaml.safe_load((folder / "images.yaml").read_text()).values()
    ]
    made = {"digest": f"sha256:{'0' * 64}", "date": DAY}
    lock.write_text(yaml.safe_dump({**dict.fromkeys(bases, made), **locked}))
