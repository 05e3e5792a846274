"""The lock of the bases: read, compared, written, and what is built from it."""

import datetime as dt
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import requests
from docker.errors import APIError, NotFound

from cloister import config, images
from cloister.errors import ImageError
from cloister.images import command, lock
from cloister.images.build import Source

ROOT = Path(__file__).parents[2]
OLD, NEW = f"sha256:{'0' * 64}", f"sha256:{'a' * 63}1"
DAY, TODAY = dt.date(2026, 8, 24), dt.date(2026, 11, 27)
BASE = "debian:trixie-slim"
LOCK = {BASE: lock.Locked(digest=OLD, date=DAY)}
SOURCE = Source("0123456789abcdef0123456789abcdef01234567", 1_700_000_000)


def resolving(known: Mapping[str, str]) -> Callable[[str], str]:
    def resolve(base: str) -> str:
        if base not in known:
            raise ImageError(f"no digest of `{base}`: no route")
        return known[base]

    return resolve


def test_what_is_written_is_read_again_and_written_the_same(tmp_path: Path) -> None:
    file = tmp_path / "lock.yaml"
    locked = {
        "localhost:5000/org/debian:trixie-slim": lock.Locked(digest=NEW, date=TODAY),
        **LOCK,
    }
    lock.write(locked, file)
    text = file.read_text()
    assert lock.read(file) == locked
    assert text.splitlines()[-2:] == [
        f"debian:trixie-slim: {{digest: '{OLD}', date: 2026-08-24}}",
        f"localhost:5000/org/debian:trixie-slim: {{digest: '{NEW}', date: 2026-11-27}}",
    ]
    assert text.startswith("# Written by `invoke images.lock --update`")
    lock.write(lock.read(file), file)
    assert file.read_text() == text
    lock.write({}, file)
    assert lock.read(file) == {}
    assert lock.read(tmp_path / "none.yaml") == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("debian:12: {digest: sha256:12, date: 2026-08-24}", "debian:12.digest"),
        (f"debian:12: {{digest: '{OLD}', date: soon}}", "debian:12.date"),
        (f"debian:12: {{digest: '{OLD}'}}", "debian:12.date"),
        (f"debian:12: {{digest: '{OLD}', date: 2026-08-24, tag: x}}", "debian:12.tag"),
        (f"debian:12: {OLD}", "debian:12"),
        ("- debian:12", "it: "),
        ("{", "is not a list of locked images"),
        ("\0", "is not a list of locked images"),
    ],
)
def test_a_lock_that_is_none_is_said_in_two_lines(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "lock.yaml"
    file.write_text(text)
    with pytest.raises(ImageError, match=re.escape(words)) as refused:
        lock.read(file)
    assert len(str(refused.value).splitlines()) == 2


def test_a_lock_that_cannot_be_read_or_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="is not a list of locked images"):
        lock.read(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ImageError, match="cannot be written"):
        lock.write(LOCK, tmp_path / "file" / "lock.yaml")


def test_the_committed_lock_is_what_would_be_written() -> None:
    committed = lock.read()
    assert lock.render(committed) == lock.path().read_text()
    assert set(committed) <= {image.base for image in images.catalogue().values()}
    assert BASE in committed


def test_nothing_but_the_bases_is_ever_pulled() -> None:
    for path in (ROOT / "compose").glob("*.yaml"):
        for image in re.findall(r"^ +image: (\S+)", path.read_text(), re.MULTILINE):
            assert image.startswith("${CLOISTER_DOCKER_IMAGES:-cloister}/"), path
    for path in (ROOT / "images").glob("*/Dockerfile"):
        text = path.read_text()
        assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) <= {"${BASE}", "scratch"}
        assert set(re.findall(r"--from=(\S+)", text)) <= {"build"}
        assert "# syntax" not in text


def test_a_base_with_a_digest_is_locked_as_it_is() -> None:
    assert lock.locked(BASE, LOCK) == f"{BASE}@{OLD}"
    assert lock.locked(f"{BASE}@{NEW}", {}) == f"{BASE}@{NEW}"
    with pytest.raises(ImageError, match="`debian:12` is not locked") as refused:
        lock.locked("debian:12", LOCK)
    assert refused.value.hint is not None
    assert "--update" in refused.value.hint
    assert "--unlocked" in refused.value.hint


def test_an_update_keeps_the_date_of_what_did_not_change() -> None:
    before = {**LOCK, "gone:1": LOCK[BASE], "moved:1": LOCK[BASE]}
    bases = (BASE, "moved:1", "new:1", BASE, f"fixed:1@{OLD}")
    found = {BASE: OLD, "moved:1": NEW, "new:1": NEW}
    entries = lock.compared(bases, before, resolving(found))
    states = {entry.base: entry.state for entry in entries}
    assert states == {BASE: "locked", "moved:1": "newer", "new:1": "missing"}
    after, changes = lock.updated(before, entries, TODAY)
    assert after == {
        BASE: LOCK[BASE],
        "moved:1": lock.Locked(digest=NEW, date=TODAY),
        "new:1": lock.Locked(digest=NEW, date=TODAY),
    }
    assert changes == (
        f"moved:1: {NEW}, was {OLD} of 2026-08-24",
        f"new:1: {NEW}",
        "gone:1: no base any more, removed",
    )
    again = lock.compared(bases, after, resolving(found))
    assert lock.updated(after, again, dt.date(2027, 1, 1)) == (after, ())


def test_half_an_update_is_none() -> None:
    entries = lock.compared((BASE, "new:1"), LOCK, resolving({"new:1": NEW}))
    assert [entry.state for entry in entries] == ["unknown", "missing"]
    with pytest.raises(ImageError, match="no digest of `debian:trixie-slim`: no route; nothing"):
        lock.updated(LOCK, entries, TODAY)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (NotFound("x", explanation="manifest\nunknown"), "`debian:12`: manifest unknown"),
        (APIError("denied"), "`debian:12`: denied"),
        (requests.ReadTimeout("read timed out"), "`debian:12`: read timed out"),
    ],
)
def test_a_registry_that_does_not_answer_is_an_image_error(error: Exception, words: str) -> None:
    client = mock.Mock()
    client.api.inspect_distribution.return_value = {"Descriptor": {"digest": NEW}}
    assert lock.resolver(client)(BASE) == NEW
    client.api.inspect_distribution.side_effect = error
    with pytest.raises(ImageError, match=re.escape(words)):
        lock.resolver(client)("debian:12")


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """What every registry has; the lock is a file of the test."""
    known: dict[str, str] = {}
    monkeypatch.setattr("cloister.containers.connect", mock.Mock)
    monkeypatch.setattr(lock, "resolver", lambda _: resolving(known))
    monkeypatch.setattr(lock, "path", lambda: tmp_path / "lock.yaml")
    return known


def test_the_command_locks_and_tells(
    registry: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    bases = {image.base for image in images.catalogue().values()}
    with pytest.raises(ImageError, match="nothing was locked"):
        command.lock(update=True, as_json=False)
    assert not lock.path().exists()
    registry |= dict.fromkeys(bases, OLD)
    with pytest.raises(ImageError, match=f"not locked: {BASE}, vllm/"):
        command.lock(update=False, as_json=False)
    command.lock(update=True, as_json=True)
    assert set(lock.read()) == bases
    registry[BASE] = NEW
    registry.pop("vllm/vllm-openai:v0.32.0")
    capsys.readouterr()
    command.lock(update=False, as_json=True)
    told = {row["base"]: row for row in json.loads(capsys.readouterr().out)}
    assert told[BASE]["state"] == "newer"
    assert (told[BASE]["digest"], told[BASE]["registry"]) == (OLD, NEW)
    assert told["vllm/vllm-openai:v0.32.0"]["state"] == "unknown"
    registry["vllm/vllm-openai:v0.32.0"] = OLD
    command.lock(update=True, as_json=False)
    assert f"{BASE}: {NEW}, was {OLD} of " in capsys.readouterr().err
    command.lock(update=True, as_json=False)
    assert "nothing changed" in capsys.readouterr().err


# What is built


def builds(**options: Any) -> tuple[images.Build, ...]:
    settings = config.load(environ={"CLOISTER_CONFIG": "/dev/null"}).settings
    return images.plan_builds(images.Options(**options), settings.docker, SOURCE, lock=LOCK)


def labels(build: images.Build) -> dict[str, str]:
    prefix = "--label=org.opencontainers.image."
    given = [a.removeprefix(prefix) for a in build.arguments if a.startswith(prefix)]
    return dict(text.split("=", 1) for text in given)


@pytest.mark.parametrize(
    ("options", "base", "name", "digest"),
    [
        ({}, f"{BASE}@{OLD}", BASE, OLD),
        ({"unlocked": True}, BASE, BASE, ""),
        ({"local": True}, f"cloister-base/{BASE}", f"cloister-base/{BASE}", ""),
        ({"base": BASE}, BASE, BASE, ""),
        (
            {"base": f"r.example:5000/d:1@{NEW}"},
            f"r.example:5000/d:1@{NEW}",
            "r.example:5000/d:1",
            NEW,
        ),
    ],
)
def test_what_an_image_is_built_from(
    options: dict[str, Any], base: str, name: str, digest: str
) -> None:
    (build,) = builds(image="gateway", **options)
    assert build.base == base
    assert f"--build-arg=BASE={base}" in build.arguments
    told = labels(build)
    assert (told["base.name"], told["base.digest"]) == (name, digest)


def test_a_base_that_is_not_locked_is_refused_before_anything_is_built() -> None:
    with pytest.raises(ImageError, match="is not locked to a digest"):
        builds(engine="cuda")
    assert builds(engine="cuda", unlocked=True)[-1].base == "vllm/vllm-openai:v0.32.0"
    assert builds(image="vllm-cuda", base="mine:1")[0].base == "mine:1"
