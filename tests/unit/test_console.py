"""What is printed for people: text of any origin as text, and waits with their times."""

import contextlib
import importlib
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from invoke.context import Context
from invoke.exceptions import Exit

from cloister import chat, console, deployment, shell
from cloister.errors import ToolError

HOSTILE = "a\x1b[31m\x9b2J\u202e[bold]b[/bold][/x] :bug: {c}\x07"
SHOWN = "a\ufffd[31m\ufffd2J\ufffd[bold]b[/bold][/x] :bug: {c}\ufffd"


def test_names_and_messages_are_printed_as_they_are_but_for_what_is_obeyed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console.show(HOSTILE)
    console.table(("name", "count"), [(HOSTILE, 1), (None, 2)])
    console.dump({"name": HOSTILE})
    printed = capsys.readouterr().out
    assert printed.count(SHOWN) == 2
    assert json.loads(printed[printed.index("{\n") :]) == {"name": HOSTILE}
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", printed)


def test_lines_beside_the_data_are_printed_so_too() -> None:
    script = (
        "from cloister import console\n"
        "import sys\n"
        f"text = {HOSTILE!r}\n"
        "console.say(text)\n"
        "with console.steps() as report, console.transfer(text, 3) as advance:\n"
        "    report(text)\n"
        "    advance(3)\n"
        "with console.gauge(text) as gauge:\n"
        "    gauge.waits(text)\n"
        "    gauge.update(1, 2, text)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert done.stderr.splitlines() == [SHOWN, f"{SHOWN} ..."]


def test_a_step_that_takes_long_is_told_with_its_time(capfd: pytest.CaptureFixture[str]) -> None:
    told = ""

    def until(pattern: str) -> None:
        nonlocal told
        while not re.search(pattern, told):
            time.sleep(0.05)
            told += capfd.readouterr().err

    with console.steps() as report:
        report("starting")
        report("starting")
        until(r"starting: [2-9] s so far")
    with console.waiting("the engine", 300):
        until(r"waiting for the engine for [2-9] s of at most 300 s")
    with console.waiting("nothing"):
        pass
    assert told.count("starting ...") == 1
    assert "nothing" not in told + capfd.readouterr().err


def test_a_log_is_printed_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "engine.log"
    log.write_bytes(f"first\n{HOSTILE}\nbytes \xff that are no text\n".encode() + b"\xff\n")
    shell.tail((log,), lines=3, follow=False)
    assert capsys.readouterr().out == f"{SHOWN}\nbytes \xff that are no text\n\ufffd\n"
    with pytest.raises(ToolError, match="ended with code 1"):
        shell.tail((tmp_path / "none.log",), lines=3, follow=False)
    with pytest.raises(ToolError, match="not installed"):
        shell.relay(("no-such-program",))


READING = chat.Reading("Page", "stop", "an engine", 1, 3.0)
STATUS = deployment.Status(False, False, "http://service", "tesseract", "m", ())  # noqa: FBT003


@pytest.mark.parametrize(
    ("command", "function", "result", "said"),
    [
        (
            "service.health",
            "health",
            READING,
            r"a fresh page from the service for \d+ s of at most",
        ),
        (
            "service.down",
            "down",
            True,
            r"the programs, which finish the pages in flight first, for",
        ),
        ("fleet.status", "status", STATUS, r"the programs to say how they are for \d+ s"),
    ],
)
def test_a_command_tells_that_it_waits(
    command: str,
    function: str,
    result: object,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """What it calls returns only when that has been told."""

    def slow(_: object) -> object:
        told = ""
        while not re.search(f"waiting for {said}", told):
            time.sleep(0.05)
            told += capfd.readouterr().err
        return result

    monkeypatch.setattr(deployment, function, slow)
    module, _, name = command.partition(".")
    with contextlib.suppress(Exit):  # `status` of what is not up
        getattr(importlib.import_module(f"tasks.{module}"), name)(Context())
