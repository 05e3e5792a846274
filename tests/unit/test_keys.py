"""API keys: what is kept, and what is refused."""

import base64
import datetime as dt
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from cloister import keys
from cloister.errors import AccessError
from cloister.layout import Layout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def test_a_key_is_kept_as_its_hash_in_a_file_of_the_owners_own(layout: Layout) -> None:
    made, secret = keys.create(layout, "alice", rate="60/min", concurrency=3)
    assert secret.startswith("cloister_alice.")
    assert len(secret.partition(".")[2]) >= 43, "256 bits"
    text = layout.keys.read_text()
    assert secret.partition(".")[2] not in text
    assert layout.keys.stat().st_mode & 0o777 == 0o600
    assert keys.read(layout) == (made,)
    hashed = hashlib.md5(f"Bearer {secret}".encode()).digest()  # noqa: S324  # nginx' own
    assert base64.urlsafe_b64decode(made.digest + "==") == hashed


def test_no_two_keys_are_alike(layout: Layout) -> None:
    secrets = {keys.create(layout, f"key-{number}")[1] for number in range(20)}
    assert len(secrets) == 20
    assert len({key.digest for key in keys.read(layout)}) == 20


@pytest.mark.parametrize(
    ("name", "limits", "words"),
    [
        ("alice", {}, "there is a key `alice`"),
        ("", {}, "no name"),
        ("Bob", {}, "no name"),
        ("bob.", {}, "no name"),
        ("bob;}", {}, "no name"),
        ("b" * 41, {}, "no name"),
        ("bob\n", {}, "no name"),
        ("bob", {"rate": "60"}, "--rate 60/min"),
        ("bob", {"rate": "0/s"}, "--rate 60/min"),
        ("bob", {"rate": "1.5/s"}, "--rate 60/min"),
        ("bob", {"rate": "60/min\n"}, "--rate 60/min"),
        ("bob", {"concurrency": 0}, "--concurrency"),
        ("bob", {"concurrency": 70000}, "--concurrency"),
        ("bob", {"expires": dt.datetime(2020, 1, 1, tzinfo=dt.UTC)}, "would open nothing"),
    ],
)
def test_what_cannot_be_a_key_is_refused(
    layout: Layout, name: str, limits: dict[str, Any], words: str
) -> None:
    keys.create(layout, "alice")
    before = layout.keys.read_bytes()
    with pytest.raises(AccessError) as caught:
        keys.create(layout, name, **limits)
    assert words in str(caught.value)
    assert layout.keys.read_bytes() == before


def test_a_revoked_key_is_gone_and_an_unknown_one_is_named(layout: Layout) -> None:
    keys.create(layout, "alice")
    keys.create(layout, "bob")
    assert keys.revoke(layout, "alice").name == "alice"
    assert [key.name for key in keys.read(layout)] == ["bob"]
    with pytest.raises(AccessError, match="there are: bob"):
        keys.revoke(layout, "alice")


def test_this_machines_own_key_is_made_once_and_again_when_it_was_revoked(layout: Layout) -> None:
    assert keys.operator(layout) is None
    keys.ensure_operator(layout)
    first = keys.operator(layout)
    keys.ensure_operator(layout)
    assert keys.operator(layout) == first
    assert layout.operator_key.stat().st_mode & 0o777 == 0o600
    keys.revoke(layout, keys.OPERATOR)
    keys.ensure_operator(layout)
    second = keys.operator(layout)
    assert second not in {None, first}
    layout.operator_key.unlink()
    keys.ensure_operator(layout)
    assert keys.operator(layout) not in {None, first, second}
    assert [key.name for key in keys.read(layout)] == [keys.OPERATOR]


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[1]", '[{"name": "a"}]', '[{"name": "a;b", "digest": "x"}]', "\0"],
)
def test_a_damaged_file_opens_nothing(layout: Layout, text: str) -> None:
    layout.keys.write_text(text)
    with pytest.raises(AccessError, match="cannot be read"):
        keys.read(layout)


def test_a_key_lasts_to_the_end_of_its_day() -> None:
    assert keys.until("2030-02-28") == dt.datetime(2030, 2, 28, 23, 59, 59, tzinfo=dt.UTC)
    for text in ("tomorrow", "2030-02-30", "28.2.2030", ""):
        with pytest.raises(AccessError, match="--expires 2027-06-30"):
            keys.until(text)


def test_what_is_kept_can_be_read_by_others(layout: Layout) -> None:
    keys.create(layout, "alice", expires=keys.until("2099-01-01"))
    (kept,) = json.loads(layout.keys.read_text())
    assert kept["name"] == "alice"
    assert kept["expires"] == "2099-01-01T23:59:59Z"
