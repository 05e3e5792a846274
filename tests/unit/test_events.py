"""The log of what happened: appended to, never rewritten, read by people and by scripts."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cloister import events
from cloister.errors import DeploymentError
from cloister.events import Journal
from cloister.layout import Layout


def test_what_is_noted_is_read_again(tmp_path: Path) -> None:
    journal = Journal(Layout(tmp_path), "watchdog")
    journal.note("sick", "vllm-nanonets-ocr-1", "it has not answered for 61 s", silent_s=61)
    (event,) = events.read(Layout(tmp_path))
    assert (event.by, event.event, event.replica) == ("watchdog", "sick", "vllm-nanonets-ocr-1")
    assert event.details == {"silent_s": 61}
    assert event.at.endswith("+00:00")
    assert Layout(tmp_path).events.stat().st_mode & 0o777 == 0o600


def test_many_writers_do_not_mix_their_lines(tmp_path: Path) -> None:
    journal = Journal(Layout(tmp_path), "up")
    with ThreadPoolExecutor(8) as threads:
        list(
            threads.map(
                lambda n: journal.note("started", f"vllm-nanonets-ocr-{n}", "x" * 500), range(200)
            )
        )
    assert {event.replica for event in events.read(Layout(tmp_path))} == {
        f"vllm-nanonets-ocr-{number}" for number in range(200)
    }


def test_a_line_that_was_cut_off_costs_only_itself(tmp_path: Path) -> None:
    journal = Journal(Layout(tmp_path), "up")
    journal.note("started", "vllm-nanonets-ocr-1")
    with Layout(tmp_path).events.open("a") as file:
        file.write('{"at": "2026-\n')
    journal.note("started", "vllm-nanonets-ocr-2")
    assert [event.replica for event in events.read(Layout(tmp_path))] == [
        "vllm-nanonets-ocr-1",
        "vllm-nanonets-ocr-2",
    ]


def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DeploymentError, match="cannot be written"):
        Journal(Layout(tmp_path / "file" / "state"), "up").note("started")


def test_people_see_the_last_and_scripts_see_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = Layout(tmp_path)
    journal = Journal(layout, "watchdog")
    journal.note(
        "failed", "vllm-nanonets-ocr-1", "its process ended", likely="the driver", log=["a", "b"]
    )
    journal.note("sick", "vllm-nanonets-ocr-2")
    events.show(layout, "vllm-nanonets-ocr-1", lines=20, follow=False, as_json=False)
    shown = capsys.readouterr().out
    assert (
        "vllm-nanonets-ocr-1  failed: its process ended; likely the driver\n    a\n    b\n" in shown
    )
    assert "vllm-nanonets-ocr-2" not in shown
    events.show(layout, None, lines=1, follow=False, as_json=True)
    assert json.loads(capsys.readouterr().out)["replica"] == "vllm-nanonets-ocr-2"
    events.show(layout, None, lines=0, follow=False, as_json=True)
    assert capsys.readouterr().out == ""
