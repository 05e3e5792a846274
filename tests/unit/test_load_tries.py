"""How often a page was tried, by a log that grows, is turned over, and has rubbish in it."""

import json
from pathlib import Path

from test_load_measures import record

from cloister.loadtest.tries import Tries


def line(name: str, upstream: str) -> str:
    return json.dumps({"request_id": name, "upstream": upstream}) + "\n"


def told(tries: Tries, *names: str) -> list[int]:
    return [one.tries for one in tries.told([record(0, request_id=name) for name in names])]


def test_a_log_is_read_on_from_the_test_s_begin(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_text(line("old", "10.0.0.1:8000, 10.0.0.2:8000"))
    tries, last = Tries(log), line("c", "10.0.0.1:8000, 10.0.0.2:8000")
    with log.open("a") as file:
        file.write(line("a", "10.0.0.1:8000") + "rubbish\n[]\n")
        file.write(line("b", "10.0.0.1:8000, 10.0.0.2:8000") + last[:-9])
    assert told(tries, "a", "b") == [1, 2]
    assert told(tries, "old", "c") == [1, 1], "not of this test, and not whole"
    with log.open("a") as file:
        file.write(last[-9:])
    assert told(tries, "a", "c") == [1, 2]


def test_a_log_may_be_turned_over_and_may_be_missing(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_text(line("before", "10.0.0.1:8000") * 3)
    tries = Tries(log)
    log.write_text(line("a", "10.0.0.2:8000, 10.0.0.1:8000"))
    assert told(tries, "a") == [2]
    assert told(Tries(None), "a") == [1]
