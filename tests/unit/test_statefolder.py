"""A state folder that another user can change is refused; what is merely open is closed."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloister import config, statefolder
from cloister.deployment.plan import plan, programs
from cloister.errors import DeploymentError
from cloister.files import BusyError
from cloister.layout import Layout
from cloister.runtimes.docker import folders
from cloister.runtimes.process import ProcessRuntime
from cloister.statefolder import locked, require_own

STRANGER = 4321
Give = Callable[[Path], None]


@pytest.fixture
def give(monkeypatch: pytest.MonkeyPatch) -> Give:
    """Let a path look like another user's, which only root could make it."""
    theirs: set[Path] = set()
    lstat = Path.lstat

    def looked(path: Path) -> os.stat_result:
        about = lstat(path)
        owner = STRANGER if path in theirs else about.st_uid
        return os.stat_result([*about[:4], owner, *about[5:]])

    monkeypatch.setattr(Path, "lstat", looked)
    return theirs.add


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_a_folder_is_not_needed_and_one_of_ones_own_is_left_as_it_is(tmp_path: Path) -> None:
    state = tmp_path / "a" / "state"
    require_own(state)
    assert not state.exists()
    state.mkdir(parents=True, mode=0o755)
    (tmp_path / "link").symlink_to("a/../a/state")
    require_own(state)
    require_own(tmp_path / "link")
    assert mode(state) == 0o755


@pytest.mark.parametrize("whose", ["a/state", "a", "link", "second"])
def test_what_another_user_could_change_is_refused(tmp_path: Path, give: Give, whose: str) -> None:
    (tmp_path / "a" / "state").mkdir(parents=True)
    (tmp_path / "second").symlink_to(tmp_path / "a")
    (tmp_path / "link").symlink_to("second")
    give(tmp_path / whose)
    with pytest.raises(DeploymentError, match=f"{whose}`.*belongs to user {STRANGER}") as raised:
        require_own(tmp_path / "link" / "state")
    assert "state_dir" in str(raised.value.hint)
    with pytest.raises(DeploymentError), locked(tmp_path / "link" / "state" / "lock"):
        pass
    assert list((tmp_path / "a" / "state").iterdir()) == []


def test_a_folder_on_the_way_that_everybody_writes_into_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "a" / "state"
    state.mkdir(parents=True)
    state.parent.chmod(0o777)
    with pytest.raises(DeploymentError, match=r"a`, on the way to .* is everybody's to write into"):
        require_own(state)
    state.parent.chmod(0o1777)  # as /tmp: nobody moves what is another's
    require_own(state)
    with pytest.raises(DeploymentError, match="is everybody's to write into"):
        require_own(state.parent)
    assert mode(state.parent) == 0o1777


def test_what_was_open_to_write_into_is_closed(tmp_path: Path) -> None:
    """Earlier versions made all folders by the umask."""
    state = tmp_path / "state"
    (state / "gateway").mkdir(parents=True)
    (state / "keys.json").touch()
    state.chmod(0o777)
    (state / "gateway").chmod(0o775)
    require_own(state)
    assert (mode(state), mode(state / "gateway")) == (0o755, 0o755)


@pytest.mark.parametrize("place", ["keys.json", "gateway/nginx.conf"])
def test_what_somebody_put_into_an_open_folder_is_told_each_time(
    tmp_path: Path, give: Give, place: str
) -> None:
    planted = tmp_path / "state" / place
    planted.parent.mkdir(parents=True)
    planted.touch()
    planted.parent.chmod(0o777)
    give(planted)
    for _ in range(2):
        with pytest.raises(DeploymentError, match=f"belongs to user {STRANGER}, who could write"):
            require_own(tmp_path / "state")
    planted.unlink()
    require_own(tmp_path / "state")
    assert mode(planted.parent) == 0o755


def refused(path: Path, _: int) -> None:
    """As for a folder of another user's, root's among them."""
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(path))


def ignored(_: Path, __: int) -> None:
    """As on a file system without modes, where everybody may write into every folder."""


UNCLOSED = {
    "Operation not permitted; expected a folder of this user": refused,
    "its file system keeps no modes": ignored,
}


@pytest.mark.parametrize("why", UNCLOSED)
@pytest.mark.parametrize("name", [".", "gateway"])
def test_a_folder_that_cannot_be_closed_is_told_with_what_to_do(
    tmp_path: Path, name: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "state" / name
    place.mkdir(parents=True)
    place.chmod(0o777)
    monkeypatch.setattr(Path, "chmod", UNCLOSED[why])
    for _ in range(2):
        with pytest.raises(DeploymentError) as raised:
            require_own(tmp_path / "state")
        assert raised.value.message.startswith(f"`{place}` cannot be closed to other users: {why}")
        assert f"ls -ld {place}" in str(raised.value.hint)
        assert "state_dir" in str(raised.value.hint)


def test_folders_of_sockets_that_cannot_be_closed_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after one `sudo invoke up`: they are root's."""
    flags, environ = (f"state_dir={tmp_path}", "engine=tesseract"), {"CLOISTER_CONFIG": "/dev/null"}
    chosen = config.load(flags=flags, environ=environ).settings
    described = programs(plan(chosen, 2), None)
    monkeypatch.setattr("cloister.nginx.find", lambda _: "nginx")
    monkeypatch.setattr(Path, "chmod", refused)
    with pytest.raises(DeploymentError, match=f"{tmp_path / 'run'}` cannot be closed"):
        ProcessRuntime(chosen).apply(described, {"tesseract-1"})
    with pytest.raises(DeploymentError, match=f"{tmp_path / 'run'}` cannot be closed"):
        folders.make(Layout(tmp_path), described)


def test_links_that_lead_to_each_other_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(DeploymentError, match="lead to each other"):
        require_own(tmp_path / "a")


def test_whose_program_this_is_may_have_the_folder(
    tmp_path: Path, give: Give, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root in a container with a user's checkout: he can change the program itself."""
    checkout = tmp_path / "checkout"
    state = checkout / ".cloister"
    state.mkdir(parents=True)
    give(checkout)
    with pytest.raises(DeploymentError):
        require_own(state)
    monkeypatch.setattr(statefolder, "project_root", lambda: checkout)
    require_own(state)


def test_in_a_user_namespace_the_machines_users_have_no_number(
    tmp_path: Path, give: Give, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, map_, overflow = tmp_path / "state", tmp_path / "map", tmp_path / "overflow"
    map_.write_text("         0       1000          1\n")
    overflow.write_text(f"{STRANGER}\n")
    monkeypatch.setattr(statefolder, "_MAP", map_)
    monkeypatch.setattr(statefolder, "_OVERFLOW", overflow)
    give(Path("/"))
    require_own(state)
    map_.write_text("         0          0 4294967295\n")
    with pytest.raises(DeploymentError):
        require_own(state)


def test_a_lock_that_is_held_is_told_by_its_own_words(tmp_path: Path) -> None:
    lock, busy = tmp_path / "lock", "another `x` is running"
    with locked(lock), pytest.raises(BusyError, match=busy), locked(lock, wait_s=0, busy=busy):
        pass


def test_a_file_that_is_renamed_meanwhile_is_no_defect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command writes a file beside the one that it replaces."""
    (tmp_path / "run").mkdir(mode=0o775)
    (tmp_path / "run").chmod(0o775)
    listed = Path.iterdir

    def list_with_vanished(path: Path) -> Iterator[Path]:
        yield path / "tmp1234"
        yield from listed(path)

    monkeypatch.setattr(Path, "iterdir", list_with_vanished)
    require_own(tmp_path)
    assert mode(tmp_path / "run") == 0o755


def test_a_link_may_go_up_further_than_the_top(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "link").symlink_to(f"{'../' * 40}{tmp_path.relative_to('/')}/state")
    require_own(tmp_path / "link")


def test_a_kernel_may_have_no_user_namespaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statefolder, "_MAP", tmp_path / "uid_map")
    require_own(tmp_path)
