"""YAML and JSON from strangers: each a line and a code, in bounded time and memory."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from bounds import bounded

from cloister import config, datafiles, keys
from cloister.datafiles import DataError
from cloister.errors import CloisterError
from cloister.images import lock
from cloister.layout import Layout
from cloister.loadtest import workload
from cloister.modelstore import contents, pins, sanity
from cloister.report import reading
from cloister.tuning import knobs, profile, result
from cloister.tuning.ledger import Ledger

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{one}: &{one} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, one in zip("abcdefgh", "bcdefghi", strict=True)
)
YAML: dict[str, str | bytes] = {
    "an alias bomb": BOMB,
    "an alias of itself": "models: &a [*a]\n",
    "100,000 brackets": "models: " + "[" * 100_000,
    "100,000 braces": "models: " + "{a: " * 100_000,
    "100,000 dashes": "models:\n  " + "- " * 100_000,
    "100,000 question marks": "? " * 100_000,
    "a million values": "models: [" + "a," * 1_000_000 + "]",
    "100,000 documents": "---\n" * 100_000,
    "a number of a million digits": "models: " + "1" * 1_000_000,
    "a number to the base 60": "models: 1" + ":59" * 300_000,
    "a tag of Python": "models: !!python/object/apply:os.system [id]\n",
    "a tag": "models: !!binary aGVsbG8=\n",
    "a merge": "a: &a {b: 1}\nmodels: {<<: *a}\n",
    "no text": b"\xff\xfe\x00",
    "a NUL": "models: \x00",
    "a beginning": 'models: "',
    "a wrong date": "models: 2026-99-99",
    "5 MB": "#" * (5 << 20),
}
NODES = {
    "a name that is there twice": "models: []\nmodels: []\n",
    "a list as a name": "[models]: []\n",
    "a list": "- models\n",
    "a text": "models\n",
    "nothing": "",
    "a number": "7\n",
}
FILES: dict[str, Callable[[Path], None]] = {
    "15 TB": lambda path: _sparse(path),  # noqa: PLW0108  # defined below
    "a pipe": os.mkfifo,
    "a folder": lambda path: path.mkdir(),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to the kernel's memory": lambda path: path.symlink_to("/proc/self/pagemap"),
    "a link to itself": lambda path: path.symlink_to(path.name),
}
JSON: dict[str, str | bytes] = {
    "a million brackets": "[" * 1_000_000,
    "a million mappings": '{"a":' * 1_000_000,
    "nested too deeply": "[" * 500 + "]" * 500,
    "five million values": "[" + "1," * 5_000_000 + "1]",
    "a number of a million digits": "1" * 1_000_000,
    "a million quotes": '"\\' * 1_000_000,
    "no text": b"\xff\xfe",
    "three million values in UTF-16": f"[{'1,' * 3_000_000}1]".encode("utf-16"),
    "nested too deeply in UTF-16": ("[" * 500 + "]" * 500).encode("utf-16-le"),
    "nested too deeply in UTF-32": ("[" * 500 + "]" * 500).encode("utf-32-be"),
    "a name that is there twice": '{"a": 1, "a": 2}',
    "an empty file": "",
    "a list": "[]",
    "a beginning": '{"schema_version": 1',
}
YAML_READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "cloister.yaml": ("cloister.yaml", lambda path: config.load(config_file=path, environ={})),
    "models.lock.yaml": (pins.FILE_NAME, lambda path: pins.read(path.parent)),
    "images.lock.yaml": (lock.FILE_NAME, lock.read),
    "a workload": ("w.yaml", lambda path: workload.load(str(path))),
    "knobs.yaml": ("knobs.yaml", lambda path: knobs.load("vllm", path)),
    "a tuned profile": ("p.yaml", profile.read),
}
JSON_READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a report": ("report.json", reading.load),
    "a tuning": ("tuning.json", result.load),
    "a tuning that was begun": ("begun.json", lambda path: _resumed(path)),  # noqa: PLW0108  # below
    "a model's configuration": ("config.json", lambda path: sanity._config(path.parent)),
    "the keys": ("keys.json", lambda path: keys.read(Layout(path.parent))),
}

# What says nothing wrong to a reader, and is nothing hostile.
TAKES = {
    "nothing": {"cloister.yaml", "images.lock.yaml"},
    "a wrong date": set[str](),
}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datafiles, "PIPE_S", 0.2)


def _resumed(path: Path) -> object:
    """Resume a tuning whose mark the state folder has, whatever it says."""
    state = path.parent.parent / f"state of {path.parent.name}"
    if not path.is_symlink() and path.is_file() and path.stat().st_size < 10 << 20:
        marks = Layout(state).tunings
        marks.mkdir(parents=True, exist_ok=True)
        (marks / hashlib.sha256(path.read_bytes()).hexdigest()).touch()
    return Ledger(path.parent).resume(state)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(15 << 40)


def _written(path: Path, content: str | bytes) -> None:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize("kind", YAML)
def test_hostile_yaml_is_one_line(kind: str) -> None:
    content = YAML[kind]
    with pytest.raises(DataError) as refused:
        datafiles.parse_yaml(content.decode("latin-1") if isinstance(content, bytes) else content)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", YAML_READERS)
def test_hostile_yaml_is_a_line_and_a_code(tmp_path: Path, name: str) -> None:
    file, reader = YAML_READERS[name]
    for kind, content in (YAML | NODES).items():
        if name in TAKES.get(kind, ()):
            continue
        _written(tmp_path / file, content)
        assert bounded(lambda: reader(tmp_path / file)), kind


@pytest.mark.parametrize("name", JSON_READERS)
def test_hostile_json_is_a_line_and_a_code(tmp_path: Path, name: str) -> None:
    file, reader = JSON_READERS[name]
    for kind, content in JSON.items():
        if (name, kind) == ("the keys", "a list"):
            continue  # of no key
        _written(tmp_path / file, content)
        assert bounded(lambda: reader(tmp_path / file)), kind


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("name", [*YAML_READERS, *JSON_READERS])
def test_what_is_no_file_is_a_line_and_a_code(tmp_path: Path, name: str, kind: str) -> None:
    file, reader = (YAML_READERS | JSON_READERS)[name]
    FILES[kind](tmp_path / file)
    before = sorted(tmp_path.iterdir())
    assert bounded(lambda: reader(tmp_path / file))
    assert sorted(tmp_path.iterdir()) == before


def header(text: str | bytes, *, length: int | None = None) -> bytes:
    content = text if isinstance(text, bytes) else text.encode()
    return (len(content) if length is None else length).to_bytes(8, "little") + content


MODELS: dict[str, tuple[str, bytes]] = {
    "a header of 15 TB": ("a.safetensors", header("{}", length=15 << 40)),
    "a header of 2^64 bytes": ("a.safetensors", header("{}", length=2**64 - 1)),
    "a header beyond the file": ("a.safetensors", header("{}", length=3)),
    "no whole length": ("a.safetensors", b"abc"),
    "a header of brackets": ("a.safetensors", header("[" * 1_000_000)),
    "a header of mappings": ("a.safetensors", header('{"a":' * 1_000_000)),
    "a header with a name twice": ("a.safetensors", header('{"a": 1, "a": 2}')),
    "a header that is a list": ("a.safetensors", header("[]")),
    "a header of a long number": ("a.safetensors", header("1" * 1_000_000)),
    "a tensor of long sides": (
        "a.safetensors",
        header(
            json.dumps({"a": {"dtype": "F32", "shape": [2**62] * 9999, "data_offsets": [0, 4]}})
        ),
    ),
    "an index of brackets": ("model.safetensors.index.json", b"[" * 1_000_000),
    "an index that is nested": ("model.safetensors.index.json", b'{"a":' * 100_000),
    "a text of no text": ("a.txt", b"\xff"),
    "a text with a NUL": ("a.jinja", b"\0"),
    "a program": ("a.py", b""),
    "a pickle": ("a.bin", b"\x80"),
}


@pytest.mark.parametrize("kind", MODELS)
def test_a_hostile_file_of_a_model_is_a_line_and_a_code(tmp_path: Path, kind: str) -> None:
    name, content = MODELS[kind]
    _written(tmp_path / name, content)
    assert bounded(lambda: contents.check(tmp_path / name))


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("name", ["a.safetensors", "a.json", "a.txt"])
def test_what_is_no_file_of_a_model_is_refused(tmp_path: Path, name: str, kind: str) -> None:
    FILES[kind](tmp_path / name)
    assert bounded(lambda: contents.check(tmp_path / name))


@pytest.mark.parametrize("name", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
def test_json_is_utf_8(name: str) -> None:
    """Whose brackets and commas are counted are those that the parser reads."""
    for text in ("{}", '["\u5b5b"]', f"[{'1,' * 3_000_000}1]", "[" * 500 + "]" * 500):
        for read in (datafiles.check_json, datafiles.parse_json):
            with pytest.raises(DataError, match="UTF-8"):
                read(text.encode(name))
    assert datafiles.parse_json(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}
    assert datafiles.parse_json('["\N{EURO SIGN}"]'.encode()) == ["\N{EURO SIGN}"]


def test_what_we_write_is_read(tmp_path: Path) -> None:
    assert datafiles.parse_yaml("a: [1, 2.5, null, true, 'x']\n") == {
        "a": [1, 2.5, None, True, "x"]
    }
    assert datafiles.parse_json('{"a": ["\\\\", "x\\"[[["]}') == {"a": ["\\", 'x"[[[']}
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert datafiles.load_yaml(tmp_path / "bom.yaml") == {"a": 1}
    assert datafiles.load_yaml(Path(os.devnull)) is None


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("models: *a\n", "begins with * in quotes"),
        ("models: !x\n", "begins with ! in quotes"),
        ("models: " + "1" * 401, "in quotes if it is text"),
        ("[models]: []\n", "a key that begins with [ or {"),
        ("models: 1\nmodels: 2\n", "remove one of them"),
        ("models: " + "[" * 100, None),
        ("#" * (5 << 20), None),
    ],
)
def test_a_hint_is_of_what_was_found(tmp_path: Path, text: str, hint: str | None) -> None:
    with pytest.raises(DataError) as refused:
        datafiles.parse_yaml(text)
    told = refused.value.hint
    assert (hint is None) == (told is None)
    assert (hint or "") in (told or "")
    path = tmp_path / "knobs.yaml"
    path.write_text(text)
    with pytest.raises(CloisterError) as shown:
        knobs.load("vllm", path)
    assert shown.value.hint == told


def test_a_configuration_has_the_hint_of_its_own_fault(tmp_path: Path) -> None:
    path = tmp_path / "cloister.yaml"
    for text, hint in (("state_dir: *a\n", "begins with *"), ("a: " + "1" * 401, "if it is text")):
        path.write_text(text)
        with pytest.raises(CloisterError, match=hint.replace("*", "[*]")):
            config.load(config_file=path, environ={})


@pytest.mark.parametrize("quote", ['"', "'"])
def test_digits_in_quotes_are_text(quote: str) -> None:
    digits = "1" * 1_000
    assert datafiles.parse_yaml(f"a: {quote}{digits}{quote}") == {"a": digits}
    assert datafiles.parse_yaml(f"a: |\n  {digits}") == {"a": digits}
