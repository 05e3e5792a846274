"""Files that are written whole or not at all."""

import contextlib
import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cloister import shell
from cloister.errors import DeploymentError, ToolError
from cloister.files import BusyError, exclusive, write_atomically

ROOT = Path(__file__).parents[2]


def test_a_file_is_written_with_its_folders_and_mode(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    write_atomically(path, "new", mode=0o600)
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_ctrl_c_right_after_the_rename_stays_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It became a DeploymentError, after which `invoke autoscale` tried again instead of ending."""
    replace = Path.replace

    def interrupted(path: Path, to: Path) -> Path:
        replace(path, to)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a", "new")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["new"]


def test_every_byte_is_on_the_disk_before_a_file_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a power cut could leave an empty file in the place of a good one."""
    events: list[tuple[str, str, int]] = []
    sync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        status = os.fstat(descriptor)
        events.append(("sync", f"{status.st_ino} {oct(status.st_mode)}", status.st_size))
        sync(descriptor)

    def replaced(path: Path, to: Path) -> Path:
        status = path.stat()
        events.append(("rename", f"{status.st_ino} {oct(status.st_mode)}", status.st_size))
        return replace(path, to)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    write_atomically(tmp_path / "file", "new", mode=0o600)
    written = (f"{(tmp_path / 'file').stat().st_ino} 0o100600", len("new"))
    assert events == [("sync", *written), ("rename", *written)]


def test_a_write_that_fails_keeps_the_old_file_and_leaves_nothing_beside_it(
    tmp_path: Path,
) -> None:
    """A limit on file sizes stands for a full disk: the write fails in the middle."""
    path = tmp_path / "file"
    path.write_text("old")
    script = (
        "import resource; from pathlib import Path\n"
        "from cloister.files import write_atomically\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))\n"
        f"write_atomically(Path({str(path)!r}), 'new' * 9000)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert f"DeploymentError: `{path}` cannot be written: File too large" in done.stderr
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_below_a_file_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DeploymentError, match="cannot be written"):
        write_atomically(tmp_path / "file" / "below", "text")
    with pytest.raises(DeploymentError, match="cannot be written"), exclusive(tmp_path / "file/l"):
        pass


def test_a_lock_is_held_against_other_processes_and_let_go(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    script = (
        "from pathlib import Path; from cloister.files import exclusive\n"
        f"with exclusive(Path({str(path)!r})): print('held')"
    )
    command = [sys.executable, "-c", script]
    with exclusive(path):
        refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "another Cloister command" in refused.stderr
    taken = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert taken.stdout == "held\n"


def test_a_lock_that_others_may_open_becomes_another_file(tmp_path: Path) -> None:
    """Whoever may read a file may hold its lock; one who has it open would hold it later."""
    path = tmp_path / "lock"
    path.touch()
    path.chmod(0o644)
    with path.open("rb") as opened:
        with exclusive(path):
            pass
        fcntl.flock(opened, fcntl.LOCK_EX)
        with exclusive(path, wait_s=0):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert not os.path.samestat(os.fstat(opened.fileno()), path.stat())
    assert list(tmp_path.iterdir()) == [path]


def test_a_command_of_an_earlier_version_keeps_its_lock(tmp_path: Path) -> None:
    """The watchdog that runs is of the earlier version until `up` has replaced it."""
    path = tmp_path / "lock"
    path.touch()
    path.chmod(0o644)
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(BusyError), exclusive(path, wait_s=0):
            pass
        assert os.path.samestat(os.fstat(held.fileno()), path.stat())


# Takes each lock in turn, and fails where another one of these has it at the same time.
TAKE = """
import sys, time
from pathlib import Path
from cloister import files
moved = Path.replace

def move_late(path, to):  # as on a busy machine, so that the others come as far meanwhile
    time.sleep(0.005)
    return moved(path, to)

Path.replace = move_late
files._POLL_S = 0.001
files._is_locked_by_us = lambda _: False  # whoever holds the old locks is another user
folder, count = Path(sys.argv[1]), int(sys.argv[2])
print("begun", flush=True)
sys.stdin.readline()
for number in range(count):
    with files.exclusive(folder / f"{number}.lock", wait_s=120):
        held = folder / f"{number}.held"
        held.touch(exist_ok=False)
        held.unlink()
"""


def test_of_many_commands_that_replace_a_lock_one_holds_it(tmp_path: Path) -> None:
    """Another user holds the locks of an earlier version, so nothing else keeps them apart."""
    count, commands, pipe = 60, 6, subprocess.PIPE
    with contextlib.ExitStack() as stack:
        for number in range(count):
            path = tmp_path / f"{number}.lock"
            path.touch()
            path.chmod(0o644)
            fcntl.flock(stack.enter_context(path.open("rb")), fcntl.LOCK_EX)
        command = [sys.executable, "-c", TAKE, str(tmp_path), str(count)]
        started = [
            stack.enter_context(
                subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
            )
            for _ in range(commands)
        ]
        for process in started:
            assert process.stdout
            assert process.stdout.readline() == "begun\n"
        for process in started:
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
        said = [process.communicate()[1] for process in started]
    assert said == [""] * commands
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {f"{number}.lock" for number in range(count)}
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o027, 0o077])
def test_the_users_files_are_as_open_as_his_umask_and_ours_are_not(
    tmp_path: Path, umask: int
) -> None:
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "out" / "page.md", "text")
        write_atomically(tmp_path / "state" / "gateway" / "nginx.conf", "text", mode=0o644)
        with exclusive(tmp_path / "locks" / "lock"):
            pass
    finally:
        os.umask(before)
    modes = {
        str(path.relative_to(tmp_path)): stat.S_IMODE(path.stat().st_mode)
        for path in tmp_path.rglob("*")
    }
    assert modes == {
        "out": 0o777 & ~umask,
        "out/page.md": 0o666 & ~umask,
        "state": 0o755 & ~umask,
        "state/gateway": 0o755 & ~umask,
        "state/gateway/nginx.conf": 0o644,
        "locks": 0o700,
        "locks/lock": 0o600,
    }


def test_a_missing_program_is_named() -> None:
    with pytest.raises(ToolError, match="`no-such-program` is not installed"):
        shell.run(["no-such-program"])


def test_a_failing_program_is_quoted() -> None:
    with pytest.raises(ToolError, match=r"(?s)ended with code 3.*the reason"):
        shell.run(["sh", "-c", "echo the reason >&2; exit 3"])
    assert shell.run(["sh", "-c", "exit 3"], check=False).code == 3


def test_a_program_that_hangs_is_given_up() -> None:
    with pytest.raises(ToolError, match=r"did not end within 0\.1 s"):
        shell.run(["sleep", "60"], timeout_s=0.1)
