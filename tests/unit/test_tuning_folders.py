"""A tuning is resumed in a folder that nobody else can change."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath

import pytest

from cloister import config, files
from cloister.errors import CloisterError, TuningError
from cloister.folders import Folder
from cloister.hardware import Hardware
from cloister.layout import Layout
from cloister.loadtest.result import Slo
from cloister.tuning.knobs import Space
from cloister.tuning.ledger import Begun, Ledger, require_plain


@pytest.fixture
def place(tmp_path: Path) -> Path:
    made = tmp_path / "folder"
    (made / "sub").mkdir(parents=True)
    (made / "sub" / "file").write_text("content")
    return made


@pytest.fixture
def folder(place: Path) -> Iterator[Folder]:
    with Folder.open(place, TuningError) as held:
        yield held


def others(path: Path) -> None:
    """Give a file or folder to another user."""
    os.chown(path, 12345, 12345)


def deep(place: Path) -> None:
    (place / "sub" / Path(*["d"] * 20)).mkdir(parents=True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda place: (place / "sub" / "l").symlink_to("file"), "sub/l` is a link"),
        (lambda place: (place / "l").symlink_to("../outside"), "folder/l` is a link"),
        (lambda place: os.mkfifo(place / "sub" / "p"), "sub/p` is a pipe"),
        (lambda place: others(place / "sub"), "sub` belongs to user 12345"),
        (lambda place: others(place / "sub" / "file"), "sub/file` belongs to user 12345"),
        (lambda place: (place / "sub").chmod(0o777), "sub` can be changed by everybody"),
        (lambda place: place.chmod(0o1777), "folder` can be changed by everybody"),
        (lambda place: (place / "sub").chmod(0o775), "sub` can be changed by its group"),
        (lambda place: (place / "sub" / "file").chmod(0o664), "file` can be changed by its group"),
        (lambda place: (place / "sub" / "file").chmod(0o602), "file` can be changed by everybody"),
        (deep, "is deeper than 16 levels of folders"),
    ],
)
def test_a_plain_folder_has_only_files_and_folders_of_its_user(
    folder: Folder, place: Path, change: Callable[[Path], None], said: str
) -> None:
    require_plain(folder)
    change(place)
    with pytest.raises(TuningError, match=said):
        require_plain(folder)


@pytest.fixture
def begun(tmp_path: Path) -> Begun:
    base = config.load(config_file=Path(os.devnull), environ={}).settings
    return Begun(
        command="tune",
        base=base.model_copy(update={"state_dir": tmp_path / "state"}),
        previous=None,
        hardware=Hardware("CPU, 2 cores", 1024, gpu=False),
        space=Space(()),
        pruned=(),
        given=(),
        workload="mixed",
        seed=1,
        slo=Slo(ttft_p95_s=10.0, e2e_p95_s=30.0, fault_share=0.01),
        seconds=30.0,
        first=None,
        last=None,
        processes=1,
        starts=6,
        turns=2,
        budget_s=3600.0,
    )


def change(path: Path) -> None:
    path.write_text(path.read_text().replace('"mixed"', '"evil"'))


def test_what_is_used_is_what_was_compared(
    begun: Begun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever changes the file after it was read for its hash changes nothing."""
    kept = Ledger(tmp_path / "out")
    assert kept.begin(begun) == begun
    read = Folder.read

    def changed(folder: Folder, path: PurePath | str, most_bytes: int) -> bytes:
        content = read(folder, path, most_bytes)
        change(kept.folder / "begun.json")
        return content

    monkeypatch.setattr(Folder, "read", changed)
    assert kept.resume(begun.base.state_dir) == begun
    with pytest.raises(TuningError, match="was not begun with the state folder"):
        kept.resume(begun.base.state_dir)


def test_a_tuning_is_resumed_with_its_own_state_folder_alone(begun: Begun, tmp_path: Path) -> None:
    kept = Ledger(tmp_path / "out")
    kept.begin(begun)
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(TuningError, match="same `state_dir`"):
        kept.resume(other)
    begun.base.state_dir.chmod(0o1777)
    with pytest.raises(CloisterError, match="everybody's to write into"):
        kept.resume(begun.base.state_dir)


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("written", [False, True])
def test_killed_while_it_begins_it_is_resumed_or_begun_again(
    begun: Begun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, *, written: bool
) -> None:
    kept, write, left = Ledger(tmp_path / "out"), files.write_atomically, [number]

    def killed(path: Path, content: str | bytes, *, mode: int) -> None:
        left[0] -= 1
        if left[0] or written:
            write(path, content, mode=mode)
        if not left[0]:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("cloister.tuning.ledger.write_atomically", killed)
        with pytest.raises(KeyboardInterrupt):
            kept.begin(begun)
    if (kept.folder / "begun.json").exists():
        assert kept.resume(begun.base.state_dir) == begun
    else:
        with pytest.raises(TuningError, match="has no tuning to go on with"):
            kept.resume(begun.base.state_dir)
        kept.begin(begun)
        assert kept.resume(begun.base.state_dir) == begun


def test_a_tuning_that_is_over_leaves_no_mark(begun: Begun, tmp_path: Path) -> None:
    marks = Layout(begun.base.state_dir).tunings
    kept = Ledger(tmp_path / "out")
    kept.begin(begun)
    assert len(list(marks.iterdir())) == 1
    kept.end(kept.resume(begun.base.state_dir))
    assert not list(marks.iterdir())


@pytest.mark.parametrize("name", ["trial-01/trial.json", "final-01/turn.json", "version"])
@pytest.mark.parametrize("content", [b"{}", b"\xff\xfe", b"[" * 100_000, b"x" * (1 << 20)])
def test_what_was_kept_and_cannot_be_read_is_a_line(
    tmp_path: Path, name: str, content: bytes
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    if name == "version" and content == b"{}":
        path.unlink()
        path.mkdir()
    kept = Ledger(tmp_path)
    with pytest.raises(TuningError, match=name) as refused:
        _ = kept.trials(), kept.turns(1), kept.version()
    assert "\n" not in refused.value.message
