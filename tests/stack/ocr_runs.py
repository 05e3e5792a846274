"""Run folders of `invoke ocr`, as its tests make and read them."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from deployments import Stack
from page_stubs import PageStub, document


def write(folder: Path, name: str, *marks: str | None) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(document(name, marks or [None]))
    return path


def ocr(user: Stack, stub: PageStub, source: Path, *flags: str, code: int = 0) -> Any:
    out = user.state / "out"
    words = ("ocr", str(source), "--out", str(out), "--url", stub.url, *flags)
    return user.invoke(*words, code=code)


def summary(user: Stack) -> Any:
    return user.json("ocr", "--status", "--out", str(user.state / "out"))


def pages(user: Stack) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(user.state / "out" / "ledger.sqlite")) as base:
        rows = base.execute(
            "SELECT name, number, state, text, facts FROM pages JOIN documents ON id = document "
            "ORDER BY name, number"
        ).fetchall()
    return [
        {"name": name, "number": number, "state": state, "text": text, **json.loads(facts or "{}")}
        for name, number, state, text, facts in rows
    ]
