"""The store, its lock, what a model may consist of, and whether it can be served."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from bounds import bounded
from hub import COMMIT, safetensors
from hypothesis import given
from hypothesis import strategies as st

from cloister import config, containers, models, modelstore, shell
from cloister.config import Settings, with_keys
from cloister.deployment import record
from cloister.deployment.record import Record
from cloister.engines.vllm.options import _LOOPBACK, _OFFLINE
from cloister.errors import ModelStoreError
from cloister.modelstore import File, Pin, Store, contents, guards, pins, sanity

NAME = "nanonets/Nanonets-OCR2-3B"
QWEN = "Qwen2_5_VLForConditionalGeneration"


def stored(root: Path, revision: str = COMMIT, **extra: bytes) -> Pin:
    """Put a complete model into a store."""
    files = {
        "config.json": json.dumps({"architectures": [QWEN]}).encode(),
        "model.safetensors": safetensors(1000),
        **extra,
    }
    staging = Store(root).staging(NAME, revision)
    staging.mkdir(parents=True)
    for name, content in files.items():
        (staging / name).write_bytes(content)
    sums = {n: File(len(c), hashlib.sha256(c).hexdigest()) for n, c in files.items()}
    pin = Pin(NAME, revision, None, None, "2026-11-24", sums)
    Store(root).complete(pin)
    return pin


def settings(root: Path, *flags: str) -> Settings:
    chosen = [f"model.store={root}", *flags]
    return config.load(flags=chosen, environ={"CLOISTER_CONFIG": "/dev/null"}).settings


def test_the_lock_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    first, second = stored(tmp_path), stored(tmp_path, "f" * 40)
    assert pins.read(tmp_path) == (first, second)
    assert pins.find(tmp_path, NAME) == second
    assert pins.find(tmp_path, NAME, COMMIT) == first
    pins.add(tmp_path, first)
    assert pins.find(tmp_path, NAME) == first
    pins.remove(tmp_path, NAME, COMMIT)
    assert pins.read(tmp_path) == (second,)


@pytest.mark.parametrize(
    "text",
    [
        "models: 1\n",
        "[]\n",
        "models: [{model: ../x, revision: y}]\n",
        "models: [{}]\n",
        "{",
        f"models: [{{model: a/b, revision: {COMMIT}, licence: null, base_model: null, date: x, "
        "files: {../../evil: {size: 1, sha256: " + "0" * 64 + "}}}]\n",
    ],
)
def test_a_damaged_lock_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / pins.FILE_NAME).write_text(text)
    with pytest.raises(ModelStoreError, match="is not a list of locked models"):
        pins.read(tmp_path)


def test_the_last_one_locked_is_served_or_the_one_that_is_named(tmp_path: Path) -> None:
    assert modelstore.folder(settings(tmp_path)) is None
    with pytest.raises(ModelStoreError, match="no model"):
        modelstore.require(settings(tmp_path))
    stored(tmp_path)
    stored(tmp_path, "f" * 40)
    tied = "vllm.tie_word_embeddings=true"
    assert modelstore.require(settings(tmp_path, tied)).name == "f" * 40
    named = settings(tmp_path, tied, f"model.revision={COMMIT}")
    assert modelstore.verified(named).name == COMMIT
    states = {found.revision: found.state for found in Store(tmp_path).revisions()}
    assert states == {COMMIT: "ready", "f" * 40: "ready"}


@pytest.mark.parametrize("name", ["evil.py", "more.safetensors", "sub/READY"])
def test_nothing_may_be_added_to_a_model(tmp_path: Path, name: str) -> None:
    stored(tmp_path)
    path = Store(tmp_path).folder(NAME, COMMIT) / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    with pytest.raises(ModelStoreError, match="nothing may be added"):
        modelstore.require(settings(tmp_path))
    assert [found.state for found in Store(tmp_path).revisions()] == ["damaged"]


def test_another_size_is_seen_at_every_start(tmp_path: Path) -> None:
    stored(tmp_path)
    path = Store(tmp_path).folder(NAME, COMMIT) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelStoreError, match="bytes, not"):
        modelstore.require(settings(tmp_path))


def test_what_is_damaged_is_told_with_its_repair(tmp_path: Path) -> None:
    stored(tmp_path)
    path = Store(tmp_path).folder(NAME, COMMIT) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelStoreError) as caught:
        models.verify(settings(tmp_path), None)
    repair = f"hint: invoke download --model {NAME} --revision {COMMIT} fetches what is wrong"
    assert str(caught.value) == f"`{path}` is not what was downloaded\n{repair}"


def test_a_removed_model_leaves_nothing(tmp_path: Path) -> None:
    pin = stored(tmp_path)
    assert Store(tmp_path).remove(NAME, COMMIT) >= pin.size
    assert list(Store(tmp_path).revisions()) == []
    assert pins.read(tmp_path) == ()


def test_every_byte_is_on_the_disk_before_a_revision_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[tuple[str, str]] = []
    sync, rename = os.fsync, Path.rename

    def synced(descriptor: int) -> None:
        events.append(("sync", str(Path(f"/proc/self/fd/{descriptor}").readlink())))
        sync(descriptor)

    def renamed(path: Path, to: Path) -> Path:
        events.append(("rename", str(path)))
        return rename(path, to)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    staged, place = Store(tmp_path).staging(NAME, COMMIT), Store(tmp_path).folder(NAME, COMMIT)
    stored(tmp_path)
    at = events.index(("rename", str(staged)))
    before, after = dict.fromkeys(events[:at]), dict.fromkeys(events[at:])
    for name in ("config.json", "model.safetensors", modelstore.READY, ""):
        assert ("sync", str(staged / name)) in before, name
    assert {("sync", str(path)) for path in (place.parent, place.parents[1], tmp_path)} <= set(
        after
    )
    assert events.index(("sync", str(staged / modelstore.READY))) < events.index(
        ("sync", str(staged))
    )


def test_what_a_deployment_may_have_open_is_not_removed(tmp_path: Path) -> None:
    """It serves what was locked last when it came up; since then a newer one was downloaded."""
    flags = ("engine=vllm-cuda", "runtime=process", f"state_dir={tmp_path / 'state'}")
    store = tmp_path / "models"
    stored(store)
    record.write(Record(settings=settings(store, *flags), cores=2))
    stored(store, "f" * 40)
    for revision in (COMMIT, "f" * 40):
        with pytest.raises(ModelStoreError, match="is being served"):
            models.remove(settings(store, *flags), NAME, revision)
    newer = settings(store, *flags, f"model.revision={'f' * 40}")
    rollout = Record(settings=newer, cores=2, previous=settings(store, *flags))
    record.write(rollout)
    for revision in (COMMIT, "f" * 40):
        with pytest.raises(ModelStoreError, match="is being served"):
            models.remove(settings(store, *flags), NAME, revision)
    record.write(Record(settings=newer, cores=2))
    with pytest.raises(ModelStoreError, match="is being served"):
        models.remove(settings(store, *flags), NAME, "f" * 40)
    assert models.remove(settings(store, *flags), NAME, COMMIT) > 0


def test_the_container_gets_the_proxies_and_no_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[list[str], dict[str, str]]] = []

    def attend(command: list[str], *, environment: dict[str, str]) -> int:
        calls.append((command, environment))
        return 4

    engine = SimpleNamespace(images=SimpleNamespace(list=lambda _: ["there"]))
    monkeypatch.setattr(containers, "connect", lambda: engine)
    monkeypatch.setattr(shell, "attend", attend)
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("HF_TOKEN", "hf_sekret")
    with pytest.raises(ModelStoreError):
        models.download(settings(tmp_path, "runtime=docker"), models.Request())
    ((command, environment),) = calls
    assert environment["HTTPS_PROXY"] == "http://proxy:3128"
    assert "hf_sekret" not in f"{command} {environment}"
    compose = yaml.safe_load((config.project_root() / "compose" / "compose.yaml").read_text())
    handed = compose["services"]["model-downloader"]["environment"]
    assert {"HF_ENDPOINT", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"} <= set(handed)


@given(st.binary(max_size=400))
def test_no_bytes_are_safetensors_by_accident(content: bytes) -> None:
    path = Path("/dev/shm/cloister-test.safetensors")  # noqa: S108  # written 100 times
    path.write_bytes(content)
    try:
        header = contents.tensors(path)
    except ModelStoreError:
        return
    finally:
        path.unlink()
    assert header == {}
    assert json.loads(content[8:]) is not None


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [4], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]},
        {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [True, 2], "data_offsets": [0, 8]},
        {"dtype": "PICKLE", "shape": [2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0]},
        {"dtype": "F32", "shape": "2", "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0.0, 8.0]},
        {"dtype": "U8", "shape": [1], "data_offsets": [False, True]},
        {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]},
        {"dtype": "F32", "shape": [1 << 62, 4], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [1 << 80, 0], "data_offsets": [0, 0]},
        {"dtype": [], "shape": [2], "data_offsets": [0, 8]},
        [],
    ],
)
def test_numbers_that_do_not_fit_each_other_are_refused(tmp_path: Path, entry: Any) -> None:
    header = json.dumps({"weight": entry}).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(ModelStoreError, match="is not safetensors"):
        contents.tensors(path)


_A = '"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},'


@pytest.mark.parametrize(
    "tensors",
    [
        '"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},' * 2,
        _A + '"b":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},',
        _A + '"b":{"dtype":"U8","shape":[2],"data_offsets":[6,8]},',
        _A,
        '"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8],"shape":[8]},',
        '"a":' + "[" * 100_000 + " ",
        '"a":{"dtype":"U8","shape":[' + f"{9:0<4000}," * 20_000 + '8],"data_offsets":[0,8]},',
    ],
    ids=["twice", "over", "gap", "short", "inner", "deep", "endless"],
)
@pytest.mark.timeout(30)
def test_tensors_lie_side_by_side_and_once(tmp_path: Path, tensors: str) -> None:
    header = f"{{{tensors[:-1]}}}"
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode() + bytes(8))
    with pytest.raises(ModelStoreError, match="is not safetensors") as caught:
        contents.tensors(path)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("length", [0, 1 << 63, (1 << 64) - 1, 100_000_001, 21])
def test_the_length_of_a_header_is_bounded_before_it_is_read(tmp_path: Path, length: int) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + b"{}" + bytes(18))
    with pytest.raises(ModelStoreError, match="is not safetensors"):
        contents.tensors(path)


def test_compose_says_like_the_program_that_nothing_calls_the_hub() -> None:
    text = (config.project_root() / "compose" / "vllm.yaml").read_text()
    service = yaml.safe_load(text)["services"]["vllm"]
    assert service["environment"] == _OFFLINE | _LOOPBACK
    assert {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"} <= _OFFLINE.keys()
    assert [volume.rpartition(":")[2] for volume in service["volumes"]] == ["ro"]


def fit(root: Path, model: dict[str, Any], names: tuple[str, ...] = ("a",), *flags: str) -> None:
    root.mkdir(exist_ok=True)
    (root / "config.json").write_text(json.dumps({"architectures": [QWEN], **model}))
    (root / "model.safetensors").write_bytes(safetensors(64, names))
    sanity.check(root, settings(root, *flags))


def test_the_known_fault_of_the_checkpoint_is_repaired_by_its_profile(tmp_path: Path) -> None:
    fault = {"tie_word_embeddings": False, "text_config": {"tie_word_embeddings": True}}
    fit(tmp_path, fault)
    with pytest.raises(ModelStoreError, match="not tied"):
        fit(tmp_path, fault, ("a",), "vllm.tie_word_embeddings=null")


def test_a_head_of_its_own_is_not_thrown_away(tmp_path: Path) -> None:
    with pytest.raises(ModelStoreError, match="leave unused"):
        fit(tmp_path, {"tie_word_embeddings": False}, ("a", "lm_head.weight"))
    olm = "model.name=allenai/olmOCR-2-7B-1025"
    fit(tmp_path, {"tie_word_embeddings": False}, ("a", "lm_head.weight"), olm)


@pytest.mark.parametrize(
    ("model", "flags", "words"),
    [
        ({"architectures": ["MyOwn"]}, (), "has no `MyOwn`"),
        ({"architectures": None}, (), "names no architecture"),
        ({"architectures": [["Qwen"]]}, (), "names no architecture"),
        ({"max_position_embeddings": 4096}, (), "takes 4096 tokens"),
        ({"text_config": {"max_position_embeddings": 4096}}, (), "takes 4096 tokens"),
        ({}, ("vllm.max_model_len=15000",), "a page may take 17"),
        ({}, ("vllm.max_pixels=12845056",), "16384 of image"),
    ],
)
def test_what_cannot_be_served_is_refused_with_the_arithmetic(
    tmp_path: Path, model: dict[str, Any], flags: tuple[str, ...], words: str
) -> None:
    with pytest.raises(ModelStoreError) as caught:
        fit(tmp_path, {"tie_word_embeddings": True, **model}, ("a",), *flags)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "before",
    [
        "",
        "model:\n",
        "model: # mine\n  #name: other/one\n  #revision: null\n",
        "model:\n  name: other/one\n  revision: x # old\nocr:\n  dpi: 100\n",
        "ocr:\n  dpi: 100\nmodel:\n  store: /srv\n",
        config.default_yaml(),
    ],
)
def test_a_chosen_model_is_written_into_the_users_own_file(tmp_path: Path, before: str) -> None:
    after = with_keys(before, "model", {"name": "allenai/olmOCR-2-7B-1025", "revision": COMMIT})
    path = tmp_path / "cloister.yaml"
    path.write_text(after)
    loaded = config.load(environ={}, config_file=path).settings
    assert (loaded.model.name, loaded.model.revision) == ("allenai/olmOCR-2-7B-1025", COMMIT)
    assert loaded.ocr.dpi == (100 if "dpi: 100" in before else 150)
    assert {line for line in before.splitlines() if "#" in line and ":" not in line} <= set(
        after.splitlines()
    )


PLACES: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a link": lambda path: path.symlink_to(path.parent / "elsewhere"),
}


@pytest.mark.parametrize("kind", PLACES)
@pytest.mark.parametrize("name", [f".staging/acme--Reader-{COMMIT}.lock", f".{pins.FILE_NAME}"])
def test_a_lock_that_is_no_file_holds_nobody_up(tmp_path: Path, name: str, kind: str) -> None:
    store = Store(tmp_path)
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    (path.parent / "elsewhere").write_text("mine")
    PLACES[kind](path)
    assert str(path) in bounded(lambda: store.remove("acme/Reader", COMMIT))
    assert (path.parent / "elsewhere").read_text() == "mine"


def test_a_lock_that_is_held_is_waited_for_a_while(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with (
        guards.locked(path, wait_s=0, busy=""),
        pytest.raises(ModelStoreError, match="is held"),
        guards.locked(path, wait_s=0.1, busy="it is held"),
    ):
        pass
    with guards.locked(path, wait_s=0, busy=""):
        pass
