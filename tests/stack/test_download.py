"""The real huggingface_hub and our own transfer, against a hub that does all that hubs do."""

import contextlib
import functools
import json
import multiprocessing
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import hub as fake
import pytest
from deployments import eventually
from hub import COMMIT, Hub, model, safetensors, serving
from repetitions import REPETITIONS

from cloister.downloader.__main__ import main
from cloister.downloader.asking import Patience
from cloister.downloader.download import Progress, download
from cloister.downloader.hub import Hub as Client
from cloister.errors import ModelStoreError
from cloister.modelstore import pins
from cloister.modelstore.store import READY, Store
from suites.strict import is_strict

NAME = "acme/Reader"
SHARD = "model-00002-of-00003.safetensors"
QUICK = Patience(tries=3, stall_s=1.0, deadline_s=30.0, first_wait_s=0.05, longest_wait_s=0.2)
# How much of the model has come when a download is killed: its first byte, some of the small files,
# and the large ones, several of them at once.
MOMENTS = (0.0, 0.01, 0.3, 0.6, 0.95)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving(Hub(NAME, model(), card={"license": "other", "base_model": "acme/Base"})) as made:
        yield made


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def bring(
    hub: Hub, store: Store, revision: str = "main", patience: Patience = QUICK, name: str = NAME
) -> pins.Pin:
    silent = Progress(lambda _: None, lambda _: None, lambda _: None)
    return download(Client(hub.url, patience), store, name, revision, patience, silent)


def refused(hub: Hub, store: Store, **options: Any) -> str:
    with pytest.raises(ModelStoreError) as caught:
        bring(hub, store, **options)
    assert not list(store.root.rglob(READY)), "nothing may look complete"
    text = str(caught.value)
    assert len(text.splitlines()) <= 2
    return text


def assert_whole(hub: Hub, store: Store) -> None:
    folder = store.folder(NAME, COMMIT)
    assert store.verify(NAME, COMMIT).revision == COMMIT
    assert {str(p.relative_to(folder)) for p in folder.rglob("*")} == {*hub.files, READY}
    assert all((folder / name).read_bytes() == content for name, content in hub.files.items())
    assert not list(store.root.rglob("*.part"))


def test_a_branch_becomes_a_commit_with_every_byte_locked(hub: Hub, store: Store) -> None:
    pin = bring(hub, store)
    assert_whole(hub, store)
    assert (pin.revision, pin.licence, pin.base_model) == (COMMIT, "other", "acme/Base")
    assert pins.read(store.root) == (pin,)
    assert sum(hub.sent.values()) == hub.size
    command = ["sha256sum", "--check", "--strict", "--quiet", READY]
    subprocess.run(command, cwd=store.folder(NAME, COMMIT), check=True)


def test_a_complete_revision_needs_no_hub(hub: Hub, store: Store) -> None:
    bring(hub, store)
    hub.asked.clear()
    bring(hub, store, COMMIT)
    assert hub.asked == []
    bring(hub, store)
    assert hub.asked == [f"/api/models/{NAME}/revision/main"]


def test_only_data_is_taken(hub: Hub, store: Store) -> None:
    extra = {"pytorch_model.bin": b"\x80\x02evil", "modeling.py": b"import os", "a.gguf": b"GGUF"}
    wanted = dict(hub.files)
    hub.files |= extra
    bring(hub, store)
    hub.files = wanted
    assert_whole(hub, store)


@pytest.mark.parametrize("share", [n / 10 for n in range(1, 10)])
def test_a_connection_cut_at_every_tenth_goes_on(hub: Hub, store: Store, share: float) -> None:
    hub.cuts = {name: share for name in hub.files if name.endswith(".safetensors")}
    bring(hub, store)
    assert_whole(hub, store)
    assert sum(hub.sent.values()) <= hub.size * 1.05


@pytest.mark.parametrize("tries", [1, 3])
def test_a_hub_without_ranges_sends_all_again(hub: Hub, store: Store, tries: int) -> None:
    """After one try half of the shard is there, over which the whole of it has to go."""
    hub.ranges, hub.cuts = False, {SHARD: 0.5}
    assert "did not come" in refused(hub, store, patience=replace(QUICK, tries=tries, stall_s=10))
    (part,) = store.root.rglob(f"{SHARD}.part")
    assert part.stat().st_size == len(hub.files[SHARD]) // 2
    hub.cuts = {}
    bring(hub, store)
    assert_whole(hub, store)


def _child(url: str, root: str) -> None:
    os.environ["HF_ENDPOINT"] = url
    sys.argv = ["downloader", NAME, f"--store={root}"]
    sys.stderr = sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  # as long as the child
    main()


def _spawn(hub: Hub, root: Path) -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cloister.downloader.__main__"])
    process = context.Process(target=_child, args=(hub.url, str(root)))
    process.start()
    return process


def test_killed_at_any_byte_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """Downloads, each killed once with SIGKILL, then run again: only what is missing comes.

    How much the first one leaves unread in its sockets depends on the machine, so the files on
    the disk are what counts.
    """
    chance = random.Random(4)  # nothing secret
    moments = [*MOMENTS, *(chance.random() for _ in range(REPETITIONS.random_downloads))]
    with serving(Hub(NAME, model(3, REPETITIONS.shard_bytes), pace=30_000_000)) as hub:
        for number, moment in enumerate(moments):
            root, hub.sent = tmp_path / str(number), dict.fromkeys(hub.files, 0)
            after = max(1, int(moment * hub.size))
            hub.hold = (after + hub.size) // 2  # or it may be over before it is killed
            first = _spawn(hub, root)
            _wait_until(functools.partial(_has_sent, hub, after), first)
            first.kill()
            _go_on(hub, root, first)


def test_a_downloader_keeps_nothing_back_that_a_kill_could_lose(tmp_path: Path) -> None:
    """Every byte that came is written before more comes, so a kill costs what is under way only."""
    with serving(Hub(NAME, model(3, REPETITIONS.shard_bytes), pace=30_000_000)) as hub:
        hub.sent = dict.fromkeys(hub.files, 0)
        hub.hold = half = hub.size // 2
        first = _spawn(hub, tmp_path)
        _wait_until(lambda: _written(tmp_path) >= half, first)
        _wait_until(lambda: _written(tmp_path) == sum(hub.sent.values()), first)
        first.kill()
        _go_on(hub, tmp_path, first)


def _has_sent(hub: Hub, count: int) -> bool:
    return sum(hub.sent.values()) >= count


def _require_silent(hub: Hub) -> None:
    assert hub.connections == 0


def _wait_until(reached: Callable[[], bool], process: Any) -> None:
    """Wait for a download's progress; look often, for it to be killed in the middle of things."""
    ends = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < ends
        assert process.is_alive()
        time.sleep(0.001)


def _written(root: Path) -> int:
    """Return how many of the model's bytes are on the disk."""
    sizes = 0
    for path in root.rglob("*.*"):
        with contextlib.suppress(FileNotFoundError):  # renamed meanwhile
            sizes += path.stat().st_size if path.is_file() else 0
    return sizes


def _go_on(hub: Hub, root: Path, killed: Any) -> None:
    """Run a killed download again, and require that it asks for what is missing only."""
    killed.join(60)
    assert killed.exitcode == -9
    assert not list(root.rglob(READY))
    there, hub.hold = _written(root), None
    # The hub's threads notice a killed client only when they send on, and count until then.
    eventually(lambda: _require_silent(hub))
    hub.sent = dict.fromkeys(hub.files, 0)
    second = _spawn(hub, root)
    second.join(60)
    assert second.exitcode == 0
    assert_whole(hub, Store(root))
    assert sum(hub.sent.values()) == hub.size - there


def test_wrong_bytes_of_the_right_size_are_never_kept(hub: Hub, store: Store) -> None:
    hub.wrong = {"merges.txt"}
    assert "its hash is another one" in refused(hub, store)
    hub.wrong = {SHARD}
    assert "its hash is another one" in refused(hub, store)
    hub.wrong = set()
    bring(hub, store)
    assert_whole(hub, store)


def test_a_shard_that_always_ends_early_is_given_up(hub: Hub, store: Store) -> None:
    hub.short = {SHARD: 200_000}
    assert f"`{SHARD}` did not come" in refused(hub, store)
    hub.short, hub.sent = {}, dict.fromkeys(hub.files, 0)
    bring(hub, store)
    assert_whole(hub, store)
    assert hub.sent[SHARD] <= len(hub.files[SHARD]) - 200_000


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"gated": True}, "the model is gated"),
        ({"token": "right", "gated": True}, "the model is gated"),
        ({"token": "right"}, "no such model"),
        ({"name": "acme/Other"}, "no such model"),
        ({"branch": "dev"}, "no such revision"),
        ({"statuses": {"api": [403]}}, "HTTP 403"),
        ({"statuses": {"api": [500] * 9}}, "HTTP 500"),
        ({"statuses": {"api": [429] * 9}}, "too many requests"),
        ({"statuses": {SHARD: [401]}}, "token is wrong"),
        ({"statuses": {SHARD: [404]}}, "did not come"),
        ({"statuses": {SHARD: [500] * 9}}, "HTTP 500"),
        ({"statuses": {SHARD: [429] * 9}}, "too many requests"),
        ({"statuses": {"api": [429] * 9}, "headers": {"Retry-After": "900"}}, "too many requests"),
        ({"statuses": {SHARD: [429]}, "headers": {"Retry-After": "900"}}, "longer than is left"),
    ],
)
def test_what_the_hub_refuses_is_said(
    hub: Hub, store: Store, fault: dict[str, Any], words: str
) -> None:
    for name, value in fault.items():
        setattr(hub, name, value)
    started = time.monotonic()
    assert words in refused(hub, store)
    assert time.monotonic() - started < 60


def test_what_passes_is_waited_out(hub: Hub, store: Store) -> None:
    hub.statuses = {"api": [500, 429], SHARD: [503, 429], "config.json": [502]}
    hub.headers = {"Retry-After": "1"}
    bring(hub, store)
    assert_whole(hub, store)


def test_a_commit_that_is_another_one_is_refused(hub: Hub, store: Store) -> None:
    hub.branch = "f" * 40
    assert COMMIT in refused(hub, store, revision="f" * 40)


def test_a_dripping_connection_ends_in_time(hub: Hub, store: Store) -> None:
    hub.pace = 400
    started = time.monotonic()
    assert "did not come" in refused(hub, store)
    assert time.monotonic() - started < 90
    hub.pace = 200_000
    limit = Patience(**{**vars(QUICK), "deadline_s": 1.0})
    assert "within 1 s" in refused(hub, store, patience=limit)


def test_a_token_is_for_the_hub_alone(
    hub: Hub, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.token = "hf_secret"  # noqa: S105
    path = tmp_path / "token"
    path.write_text("hf_secret\n")
    monkeypatch.setenv("HF_TOKEN", path.read_text().strip())
    with serving(Hub(NAME, hub.files)) as other:
        hub.elsewhere = f"http://localhost:{other.port}"
        bring(hub, store)
    assert_whole(hub, store)
    assert set(hub.tokens) >= {"Bearer hf_secret"}
    assert set(other.tokens) == {None}
    assert "hf_secret" not in (store.root / pins.FILE_NAME).read_text()


def test_a_full_disk_is_said_and_goes_on_later(hub: Hub, tmp_path: Path) -> None:
    """On a tmpfs of its own, which only root may mount."""
    if os.geteuid() != 0:
        assert not is_strict(), "in CI these tests run as root"
        pytest.skip("only root may mount a small file system")
    hub.files = model(3, 3_000_000)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(tmp_path)], check=True)
    try:
        store = Store(tmp_path)
        assert "have still to come" in refused(hub, store)
        # Somebody else fills the disk on the way.
        filler = tmp_path / "filler"
        subprocess.run(["mount", "-o", "remount,size=20m", str(tmp_path)], check=True)
        hub.pace = 3_000_000
        filler_bytes = 20 * (1 << 20) - hub.size + 3_000_000
        brought = Progress(
            lambda _: filler.write_bytes(bytes(filler_bytes)) and None, lambda _: None, print
        )
        with pytest.raises(ModelStoreError, match="the disk is full"):
            download(Client(hub.url, QUICK), store, NAME, "main", QUICK, brought)
        assert not list(tmp_path.rglob(READY))
        filler.unlink()
        hub.pace = None
        bring(hub, store)
        assert_whole(hub, store)
        assert sum(hub.sent.values()) <= hub.size * 1.05
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_two_at_once_do_not_meet(tmp_path: Path) -> None:
    with serving(Hub(NAME, model(), pace=100_000)) as hub:  # the second begins in time
        both = [_spawn(hub, tmp_path) for _ in range(2)]
        for process in both:
            process.join(120)
        assert sorted(process.exitcode for process in both) == [0, ModelStoreError.exit_code]
        assert_whole(hub, Store(tmp_path))


def test_ready_without_a_shard_is_repaired_by_what_is_missing(hub: Hub, store: Store) -> None:
    bring(hub, store)
    folder = store.folder(NAME, COMMIT)
    (folder / SHARD).unlink()
    with pytest.raises(ModelStoreError, match=f"lacks {SHARD}"):
        store.require(NAME, COMMIT)
    hub.sent = dict.fromkeys(hub.files, 0)
    bring(hub, store)
    assert_whole(hub, store)
    assert {name for name, count in hub.sent.items() if count} == {SHARD}


def test_a_changed_byte_is_found_and_repaired(hub: Hub, store: Store) -> None:
    bring(hub, store)
    path = store.folder(NAME, COMMIT) / SHARD
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(ModelStoreError, match="is not what was downloaded"):
        store.verify(NAME, COMMIT)
    bring(hub, store)
    assert_whole(hub, store)


def test_a_hub_that_changes_a_locked_commit_is_refused(hub: Hub, store: Store) -> None:
    bring(hub, store)
    right = hub.files
    hub.files = {**right, SHARD: safetensors(400_000, seed=9)}
    assert bring(hub, store).files[SHARD], "what is there does not care"
    (store.folder(NAME, COMMIT) / SHARD).unlink()
    hub.sent = dict.fromkeys(hub.files, 0)
    assert "nothing was taken" in refused(hub, store)
    assert sum(hub.sent.values()) == 0, "the hub's own list tells, before anything comes"
    # Of a small file the list has git's hash only: its bytes tell.
    hub.files = {**right, "merges.txt": b"c d\n" * 3000}
    assert "nothing was taken" in refused(hub, store)
    hub.files = right
    bring(hub, store)
    assert_whole(hub, store)


def test_whole_files_without_ready_are_not_served(hub: Hub, store: Store) -> None:
    bring(hub, store)
    (store.folder(NAME, COMMIT) / READY).unlink()
    for look in (store.require, store.verify):
        with pytest.raises(ModelStoreError, match="is not complete"):
            look(NAME, COMMIT)
    hub.sent = dict.fromkeys(hub.files, 0)
    bring(hub, store)
    assert_whole(hub, store)
    assert sum(hub.sent.values()) == 0


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (SHARD, b"\x80\x02cos\nsystem\n(S'true'\ntR."),
        (SHARD, b"PK\x03\x04" + bytes(500)),
        (SHARD, (1 << 40).to_bytes(8, "little") + b"{}"),
        (SHARD, safetensors(400_000) + b"appended"),
        (SHARD, safetensors(400_000)[:-10]),
        (SHARD, (2).to_bytes(8, "little") + b"[]"),
        ("config.json", b"\x80\x02pickle"),
        ("config.json", b"{not json"),
        ("merges.txt", b"PK\x03\x04\0\0"),
        ("config.json", json.dumps({"architectures": ["MyOwnCode"], "auto_map": {}}).encode()),
        ("config.json", b"{}"),
    ],
)
def test_what_is_not_what_its_name_says_is_refused(
    hub: Hub, store: Store, name: str, content: bytes
) -> None:
    hub.files = {**hub.files, name: content}
    refused(hub, store)


@pytest.mark.parametrize("name", ["../../evil.json", "/etc/evil.json", "a/../../b.json", ".x.json"])
def test_a_name_that_leads_out_is_refused(hub: Hub, store: Store, name: str) -> None:
    hub.entries = [*hub.tree(), {**hub.entry("config.json"), "path": name}]
    assert "no name for a model's file" in refused(hub, store)


def test_a_link_is_neither_written_through_nor_served(hub: Hub, store: Store) -> None:
    outside = store.root / "outside"
    outside.write_text("mine")
    staging = store.staging(NAME, COMMIT)
    staging.mkdir(parents=True)
    (staging / f"{SHARD}.part").symlink_to(outside)
    (staging / "config.json").symlink_to(outside)
    bring(hub, store)
    assert outside.read_text() == "mine"
    assert_whole(hub, store)
    path = store.folder(NAME, COMMIT) / SHARD
    path.rename(store.root / "elsewhere")
    path.symlink_to(store.root / "elsewhere")
    with pytest.raises(ModelStoreError, match="is a link"):
        store.verify(NAME, COMMIT)


def test_a_store_that_cannot_be_written_is_said(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "Not a directory" in refused(hub, Store(tmp_path / "file"))


def test_no_hub_at_all_is_said(store: Store) -> None:
    closed = Hub(NAME, {})
    with serving(closed):
        pass
    assert "cannot be reached" in refused(closed, store)


def test_a_dead_proxy_is_named(hub: Hub, store: Store) -> None:
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HTTP_PROXY": "http://127.0.0.1:9",
        "PYTHONPATH": str(Path(fake.__file__).parents[1]),
    }
    for name in ("NO_PROXY", "no_proxy"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "cloister.downloader", NAME, f"--store={store.root}"]
    done = subprocess.run(
        [*command, "--tries=1"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == ModelStoreError.exit_code
    assert "through HTTP_PROXY" in done.stderr
    assert "Traceback" not in done.stderr
