"""A hub, a store and an environment that mean no good: nothing is taken, shown or left hanging."""

import gzip
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from deployments import ROOT, program
from hub import COMMIT, Hub, model, safetensors, serving

from cloister import models, shell
from cloister.config import load
from cloister.downloader.asking import Patience
from cloister.downloader.download import Progress, download
from cloister.downloader.hub import Hub as Client
from cloister.errors import ModelStoreError
from cloister.modelstore import pins
from cloister.modelstore.store import READY, Store

NAME = "acme/Reader"
SHARD = "model-00002-of-00003.safetensors"
QUICK = Patience(tries=2, stall_s=1.0, deadline_s=6.0, first_wait_s=0.05, longest_wait_s=0.2)
PATIENT = replace(QUICK, stall_s=60.0, deadline_s=120.0)  # the answer comes, whatever it is
SILENT = Progress(lambda _: None, lambda _: None, lambda _: None)
SECRET = "sekret"  # noqa: S105  # the one that must not be seen


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving(Hub(NAME, model())) as made:
        yield made


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


def bring(hub: Hub, store: Store, revision: str = "main", patience: Patience = QUICK) -> pins.Pin:
    return download(Client(hub.url, patience), store, NAME, revision, patience, SILENT)


def refused(hub: Hub, store: Store, patience: Patience = QUICK) -> str:
    with pytest.raises(ModelStoreError) as caught:
        bring(hub, store, patience=patience)
    assert len(str(caught.value).splitlines()) <= 2
    return str(caught.value)


@pytest.mark.parametrize("commit", ["../../../victim", "..", "", "None", COMMIT.upper(), "main"])
def test_what_is_no_commit_becomes_no_folder(hub: Hub, store: Store, commit: str) -> None:
    victim = store.root.parent / "victim"
    victim.mkdir()
    (victim / "mine.txt").touch()
    bring(hub, store)  # so that the way to the victim exists
    hub.commit = commit
    assert "no commit" in refused(hub, store)
    assert [path.name for path in victim.iterdir()] == ["mine.txt"]
    assert store.verify(NAME, COMMIT)


@pytest.mark.parametrize("name", [SHARD, SHARD.replace("model", "Model")])
def test_a_name_twice_cannot_bring_other_bytes_than_the_lock(
    hub: Hub, store: Store, name: str
) -> None:
    bring(hub, store)
    (store.folder(NAME, COMMIT) / SHARD).unlink()
    good = hub.tree()
    evil = Hub(NAME, {name: safetensors(400_000, seed=9)}).entry(name)
    assert evil["size"] == hub.entry(SHARD)["size"]
    hub.entries = [evil, *good]
    assert "twice" in refused(hub, store)


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": "12"},
        {"size": -5},
        {"size": None},
        {"path": None},
        {"path": "config.json/below.json"},
        {"path": f"{SHARD}.part/below.json"},
        {"path": "a" * 300 + ".json"},
        {"lfs": {"oid": "../x", "size": 1, "pointerSize": 1}},
        {"lfs": {}, "oid": 7},
        {"size": 10**400},
        {"size": 1 << 50},
        {"path": "/".join(["a"] * 400) + ".json"},
    ],
)
def test_a_listing_that_makes_no_sense_is_refused(
    hub: Hub, store: Store, wrong: dict[str, Any]
) -> None:
    hub.entries = [*hub.tree(), {**hub.entry("config.json"), "path": "more.json", **wrong}]
    refused(hub, store)
    assert not list(store.root.rglob(READY))


PAGE = b'[{"type": "directory", "path": "a", "oid": "0"}]'
ANSWERS: dict[str, tuple[dict[str, str], Iterable[bytes]]] = {
    "an endless one": ({}, itertools.repeat(b" " * (1 << 16))),
    "100 MB, packed": ({"Content-Encoding": "gzip"}, [gzip.compress(b" " * (100 << 20))]),
    "a million brackets": ({}, [b"[" * 1_000_000]),
    "a million mappings": ({}, [b'{"a":' * 1_000_000]),
    "three million values": ({}, [b"[" + b"1," * 3_000_000 + b"1]"]),
    "three million values in UTF-16": ({}, [f"[{'1,' * 3_000_000}1]".encode("utf-16")]),
    "no JSON": ({}, [b"<html>"]),
}


@pytest.mark.parametrize("kind", ANSWERS)
@pytest.mark.parametrize("part", ["/revision/", "/tree/"])
def test_an_answer_beyond_all_bounds_is_not_read(
    hub: Hub, store: Store, part: str, kind: str
) -> None:
    hub.raw = {part: ANSWERS[kind]}
    assert "does not answer like a model hub" in refused(hub, store, PATIENT)
    assert len([path for path in hub.asked if part in path]) == 1, "it was asked again"
    hub.raw = {}
    bring(hub, store, patience=PATIENT)
    assert store.verify(NAME, COMMIT)


@pytest.mark.parametrize("page", [b"[]", PAGE])
def test_a_listing_of_pages_without_an_end_is_refused(hub: Hub, store: Store, page: bytes) -> None:
    link = f'<{hub.url}/api/models/{NAME}/tree/{COMMIT}>; rel="next"'
    hub.raw = {"/tree/": ({"Link": link}, [page])}
    assert "more than 1,000 answers" in refused(hub, store, PATIENT)


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([{"type": "directory", "path": "a", "oid": "0"}] * 20_001, "more than 20,000 entries"),
        (
            [
                {"type": "file", "path": f"{n}.json", "size": 1, "oid": "0" * 40}
                for n in range(2_001)
            ],
            "more than 2,000 files",
        ),
    ],
)
def test_a_listing_of_too_much_is_refused(
    hub: Hub, store: Store, entries: list[dict[str, Any]], said: str
) -> None:
    hub.entries = [*hub.tree(), *entries]
    assert said in refused(hub, store, PATIENT)


def test_a_card_is_shown_as_one_line(hub: Hub, store: Store) -> None:
    hub.card = {"license": "\x1b[2Jother\nmit", "base_model": [1, "acme/Base"]}
    pin = bring(hub, store)
    assert (pin.licence, pin.base_model) == ("\ufffd[2Jother mit", "1, acme/Base")


@pytest.mark.parametrize("stall", ["hold", "head", "body"])
@pytest.mark.parametrize("part", ["/revision/", "/tree/", SHARD])
def test_an_answer_that_does_not_come_is_not_waited_for(
    hub: Hub, store: Store, part: str, stall: str
) -> None:
    hub.stalls = {part: stall}
    started = time.monotonic()
    refused(hub, store)
    assert time.monotonic() - started < 3 * QUICK.deadline_s
    hub.stalls = {}
    bring(hub, store)
    assert store.verify(NAME, COMMIT)


def test_a_place_that_cannot_be_written_is_said_before_anything_comes(
    hub: Hub, store: Store
) -> None:
    store.root.mkdir()
    (store.root / "acme").touch()
    assert "cannot be written" in refused(hub, store)
    assert sum(hub.sent.values()) == 0


def test_what_a_link_leads_to_is_left_alone(hub: Hub, store: Store) -> None:
    bring(hub, store)
    folder, elsewhere = store.folder(NAME, COMMIT), store.root.parent / "elsewhere"
    folder.rename(elsewhere)
    (elsewhere / "mine.txt").touch()
    folder.symlink_to(elsewhere)
    staging = store.staging(NAME, COMMIT)
    staging.symlink_to(elsewhere)
    with pytest.raises(ModelStoreError, match="is a link"):
        store.require(NAME, COMMIT)
    before = {path.name: path.read_bytes() for path in elsewhere.iterdir()}
    bring(hub, store)
    assert store.verify(NAME, COMMIT)
    assert {path.name: path.read_bytes() for path in elsewhere.iterdir()} == before
    assert not folder.is_symlink()


@pytest.mark.parametrize(
    "name", [".staging", f".staging/acme--{NAME[5:]}-{COMMIT}.lock", "acme", NAME]
)
@pytest.mark.parametrize("is_dangling", [False, True])
def test_a_store_that_leads_elsewhere_is_not_written_to(
    hub: Hub, store: Store, name: str, *, is_dangling: bool
) -> None:
    """A store may have come from somebody else, with links in the places of its folders."""
    elsewhere = store.root.parent / "elsewhere"
    if not is_dangling:
        elsewhere.mkdir()
        (elsewhere / "mine.txt").write_text("mine")
    link = store.root / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(elsewhere / "mine.txt" if name.endswith(".lock") else elsewhere)
    for action in (lambda: bring(hub, store), lambda: store.remove(NAME, COMMIT)):
        with pytest.raises(ModelStoreError, match="is a link") as refusal:
            action()
        assert refusal.value.hint == f"rm {link}, or set `model.store` to where it leads"
    assert elsewhere.exists() is not is_dangling
    assert is_dangling or {path.name: path.read_text() for path in elsewhere.iterdir()} == {
        "mine.txt": "mine"
    }


@pytest.mark.parametrize("name", ["config.json", "config.json.part"])
def test_a_pipe_in_the_place_of_what_came_before_holds_nobody_up(
    hub: Hub, store: Store, name: str
) -> None:
    staging = store.staging(NAME, COMMIT)
    staging.mkdir(parents=True)
    os.mkfifo(staging / name)
    bring(hub, store)
    assert store.verify(NAME, COMMIT)


@pytest.mark.parametrize("step", ["write_synced", "add", "rename"])
def test_killed_between_the_last_byte_and_the_name_it_goes_on(
    hub: Hub, store: Store, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    class Killed(BaseException):
        pass

    def kill(*_: object, **__: object) -> None:
        raise Killed

    where = {
        "write_synced": "cloister.modelstore.store.write_synced",
        "add": "cloister.modelstore.pins.add",
        "rename": "cloister.modelstore.store.Path.rename",
    }
    real = Path.rename
    with monkeypatch.context() as patch:
        if step == "rename":  # those of single files are let through
            patch.setattr(Path, "rename", lambda p, to: kill() if p.is_dir() else real(p, to))
        else:
            patch.setattr(where[step], kill)
        with pytest.raises(Killed):
            bring(hub, store)
    assert not store.folder(NAME, COMMIT).exists()
    with pytest.raises(ModelStoreError):
        store.verify(NAME, COMMIT)
    hub.sent = dict.fromkeys(hub.files, 0)
    bring(hub, store)
    assert store.verify(NAME, COMMIT)
    assert sum(hub.sent.values()) == 0


def run(hub: Hub, store: Store, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cloister.downloader", NAME, f"--store={store.root}"]
    return subprocess.run(
        [*command, "--tries=1", "--deadline-s=20"],
        env={"PATH": "/usr/bin", "HOME": "/nowhere", "PYTHONPATH": str(ROOT)}
        | {"HF_ENDPOINT": hub.url, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"HF_TOKEN_PATH": "{}/utf16"}, "characters that no token has"),
        ({"HF_TOKEN_PATH": "{}/utf16-mark"}, "cannot be read"),
        ({"HF_TOKEN_PATH": "{}/none"}, "cannot be read"),
        ({"HF_TOKEN_PATH": "{}"}, "cannot be read"),
        ({"HF_TOKEN": f"hf_{SECRET}\x1b"}, "characters that no token has"),
        ({"HF_TOKEN": f"hf_ü{SECRET}"}, "characters that no token has"),
        ({"HF_ENDPOINT": f"http://me:{SECRET}@127.0.0.1:1"}, "`http://127.0.0.1:1` cannot be"),
        ({"HF_ENDPOINT": f"http://me:{SECRET}@[bad"}, "HF_ENDPOINT is no address"),
        ({"HF_ENDPOINT": f"http://me:{SECRET}@127.0.0.1:99999"}, "HF_ENDPOINT is no address"),
        ({"HF_ENDPOINT": f"hub-{SECRET}"}, "HF_ENDPOINT is no address"),
        ({"ALL_PROXY": f"socks5://me:{SECRET}@127.0.0.1:9"}, "ALL_PROXY names no HTTP proxy"),
        ({"http_proxy": f"what://me:{SECRET}@127.0.0.1:9"}, "http_proxy names no HTTP proxy"),
        ({"http_proxy": f"http://me:{SECRET}@127.0.0.1:9"}, "through http_proxy"),
        ({"SSL_CERT_FILE": "/nowhere"}, "check SSL_CERT_FILE"),
    ],
)
def test_a_wrong_environment_is_said_without_its_secrets(
    hub: Hub, store: Store, tmp_path: Path, environment: dict[str, str], words: str
) -> None:
    (tmp_path / "utf16").write_bytes(f"hf_{SECRET}".encode("utf-16-le"))
    (tmp_path / "utf16-mark").write_bytes(f"hf_{SECRET}".encode("utf-16"))
    done = run(hub, store, **{key: text.format(tmp_path) for key, text in environment.items()})
    assert done.returncode == ModelStoreError.exit_code, done.stderr
    assert words in done.stderr
    assert len(done.stderr.splitlines()) <= 2, done.stderr
    assert SECRET not in done.stderr.replace("\0", "")


def test_ctrl_c_shows_no_traceback_however_early(tmp_path: Path) -> None:
    (tmp_path / "huggingface_hub.py").write_text(
        "import sys, time\nsys.stdout.write('importing\\n')\nsys.stdout.flush()\ntime.sleep(60)\n"
    )
    with program(
        [sys.executable, "-m", "cloister.downloader", NAME],
        env={"PATH": "/usr/bin", "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert said == "interrupted; run it again: it goes on where it stopped\n"
    assert process.returncode == 130


def settings(store: Store) -> Any:
    flags = [f"model.store={store.root}", f"model.name={NAME}", "engine=vllm-cuda"]
    flags += ["runtime=process", f"state_dir={store.root.parent}/state"]
    return load(flags=flags, environ={"CLOISTER_CONFIG": "/dev/null"}).settings


@pytest.mark.parametrize(("code", "expected"), [("-9", "was killed"), ("-2", None)])
def test_how_the_downloader_ended_is_told(
    store: Store, monkeypatch: pytest.MonkeyPatch, code: str, expected: str | None
) -> None:
    command = f"import os; os.kill(os.getpid(), {code[1:]})"
    monkeypatch.setattr(
        models,
        "_as_process",
        lambda *_: shell.attend([sys.executable, "-c", command], environment={}, inherit=False),
    )
    if expected is None:
        with pytest.raises(KeyboardInterrupt):
            models.download(settings(store), models.Request())
        return
    with pytest.raises(ModelStoreError, match=expected):
        models.download(settings(store), models.Request())


def test_what_is_being_downloaded_is_not_removed(hub: Hub, store: Store) -> None:
    hub.pace = 300_000
    bringing = threading.Thread(target=bring, args=(hub, store))
    bringing.start()
    ends = time.monotonic() + 20
    while not list(store.root.rglob("*.part")):
        assert time.monotonic() < ends
    with pytest.raises(ModelStoreError, match="under way"):
        models.remove(settings(store), NAME, COMMIT)
    hub.pace = None
    bringing.join(30)
    assert store.verify(NAME, COMMIT)
    assert models.remove(settings(store), NAME, COMMIT) > 0
    assert not [*store.root.rglob("*.json"), *store.root.rglob("*.part")]
