"""The load test as a user runs it: against services that lie, and one that reads."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from deployments import ROOT, Stack, command_line, eventually, free_ports, grouped

QUICK = ("--workload", "quick", "--no-self-check")


@contextmanager
def liar(mode: str, page_s: float = 0.2) -> Iterator[str]:
    port = free_ports(1)
    command = [sys.executable, "tests/lying_engine.py", f"--port={port}", f"--mode={mode}"]
    with subprocess.Popen([*command, f"--page-s={page_s}"], cwd=ROOT) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            eventually(lambda: requests.get(f"{url}/health", timeout=1).raise_for_status())
            yield url
        finally:
            process.kill()


@contextmanager
def started(
    out: Path, *flags: str, environment: dict[str, str] | None = None
) -> Iterator["subprocess.Popen[str]"]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("CLOISTER_")}
    with grouped(
        [sys.executable, "-m", "loadtests", "--out", str(out), *QUICK, *flags],
        env={**inherited, "CLOISTER_STATE_DIR": str(out.parent / "none"), **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        yield process


def ended(out: Path, *flags: str, code: int = 0, environment: dict[str, str] | None = None) -> Any:
    with started(out, *flags, environment=environment) as process:
        said, told = process.communicate(timeout=240)
    assert process.returncode == code, said + told
    assert "Traceback" not in told, told
    return json.loads((out / "report.json").read_text()) if code == 0 else told


def lied(mode: str, out: Path, *flags: str) -> Any:
    with liar(mode) as url:
        flags = flags or ("--shape", "poisson", "--rate", "12", "--seconds", "6")
        return ended(out, "--url", url, *flags)


def test_an_honest_service_is_found_good(tmp_path: Path) -> None:
    """How exact its times are, `nox -s bench-client` says: here no page is faster than it was."""
    with liar("honest") as url:
        flags = ("--shape", "poisson", "--rate", "12", "--seconds", "6")
        report = ended(tmp_path / "r", "--url", url, *flags)
        took_s = requests.get(f"{url}/seen", timeout=30).json()["took_s"]
    (stage,) = report["stages"]
    assert stage["faults"] == {}
    assert stage["good"] == stage["sent"] > 30, "at most half of them are warm-up"
    records = _records(tmp_path / "r")
    assert len(records) == len(took_s), "no page is left out"
    told_s = sorted(record["end_s"] for record in records)
    assert all(here <= there for here, there in zip(sorted(took_s), told_s, strict=True))
    assert stage["e2e_s"]["p50"] >= told_s[0]
    assert report["cache"]["defeated"]
    assert report["complete"]
    page = (tmp_path / "r" / "report.html").read_text()
    assert "<script" not in page
    assert not (tmp_path / "r" / "pages").exists(), "nobody's documents are left behind"


@pytest.mark.parametrize(
    ("mode", "fault", "share"),
    [
        ("cut", "cut short", 0.05),
        ("empty", "empty", 13 / 14),
        ("loop", "repeats itself", 1.0),
        ("error", "an error in the answer", 0.5),
        ("plain", "not a stream", 1.0),
        ("redirect", "HTTP 307", 1.0),
    ],
)
def test_a_lie_is_a_fault_and_no_goodput(
    mode: str, fault: str, share: float, tmp_path: Path
) -> None:
    (stage,) = lied(mode, tmp_path / "r")["stages"]
    assert stage["faults"].keys() == {fault}
    assert stage["faults"][fault] == pytest.approx(share * stage["sent"], abs=0.06 * stage["sent"])
    assert stage["good"] == stage["sent"] - stage["faults"][fault]
    edges = 6  # pages under way where the window begins and ends
    assert stage["goodput_per_s"]["n"] <= stage["good"] + edges
    assert stage["verdict"] in ({"fail"} if share > 0.05 else {"undecided", "fail"})


def test_a_service_that_stalls_now_and_then_does_not_hide_it(tmp_path: Path) -> None:
    """A tenth of the pages is slow by itself; those that had to wait behind them are counted."""
    (stage,) = lied("slow", tmp_path / "r")["stages"]
    assert stage["e2e_s"]["p90"] > 2.0
    assert stage["e2e_s"]["p50"] > 0.7, "half of the pages waited for one that was slow"


def test_an_answer_from_a_cache_is_told(tmp_path: Path) -> None:
    report = lied("cache", tmp_path / "r")
    assert not report["cache"]["defeated"]
    assert any("cache" in warning for warning in report["warnings"])


def test_time_to_first_text_is_not_that_to_the_headers(tmp_path: Path) -> None:
    """The headers come at once, the first text after a second, and the rest after that."""
    (stage,) = lied("late", tmp_path / "r")["stages"]
    assert 1.0 < stage["ttft_s"]["p50"] < stage["e2e_s"]["p50"]


def test_a_ladder_over_two_processes_stops_by_itself(tmp_path: Path) -> None:
    flags = ("--seconds", "6", "--last", "4", "--processes", "2")
    with liar("honest", page_s=0.25) as url:
        report = ended(tmp_path / "r", "--url", url, *flags)
        under_way = requests.get(f"{url}/seen", timeout=30).json()["under_way"]
    stages = report["stages"]
    assert [stage["name"] for stage in stages] == ["1 client", "2 clients", "4 clients"]
    assert max(under_way) == 4, "as the service saw it, more never came at once"
    first = [under_way.index(count) for count in (1, 2, 3)]
    assert first == sorted(first)
    assert first[1] >= stages[0]["sent"]
    for stage in stages:
        # A client has a page under way but for the moment between two, however slow the machine.
        assert stage["users"] / 2 < stage["in_flight"] < stage["users"] + 0.01
        edges = 2 * stage["users"] / stage["sent"]  # pages that the window cuts
        assert stage["little_gap"] < 0.05 + edges


def test_ctrl_c_gives_the_report_of_what_was_measured(tmp_path: Path) -> None:
    out = tmp_path / "r"
    with liar("honest") as url:
        flags = ("--shape", "soak", "--users", "2", "--seconds", "300", "--url", url)
        with started(out, *flags) as process:
            records = out / "locust" / "records.jsonl"
            eventually(lambda: _require_lines(records, 30), within_s=180)
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=180)
    assert process.returncode == 130, told
    report = json.loads((out / "report.json").read_text())
    assert not report["complete"]
    assert report["stages"][0]["good"] > 10
    assert "interrupted" in report["warnings"][0]


def _require_lines(path: Path, count: int) -> None:
    assert path.exists()
    assert path.read_text().count("\n") >= count


def test_the_embedded_service_through_and_past_the_gateway(fresh: Stack, tmp_path: Path) -> None:
    fresh.invoke("up")
    flags = ("--seconds", "6", "--first", "2", "--last", "2", "--direct")
    report = ended(tmp_path / "r", *flags, environment=_own(fresh))
    through, direct = report["stages"]
    assert report["engine"] == "tesseract"
    assert (through["direct"], direct["direct"]) == (False, True)
    assert through["faults"] == direct["faults"] == {}
    assert list(through["by_replica"]) == ["tesseract-1"]
    assert direct["by_replica"] == {}
    assert through["quality"]["cer_median"]["value"] < 0.2
    ratio = through["pages_per_s"]["value"] / direct["pages_per_s"]["value"]
    assert report["gateway"]["pages_ratio"]["value"] == pytest.approx(ratio)
    assert any(sample["running"] for sample in report["samples"])
    # Of so few pages nginx may use less than one tick of the clock in any second.
    assert any(sample["gateway_cpu"] is not None for sample in report["samples"])


def _records(out: Path) -> list[Any]:
    return [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]


def _own(stack: Stack) -> dict[str, str]:
    return {k: v for k, v in stack.environment.items() if k.startswith("CLOISTER_")}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--url", "http://127.0.0.1:9"), "no service answers"),
        (("--workload", "nope"), "one of a4"),
        (("--shape", "poisson"), "needs --rate"),
        (("--shape", "replay"), "needs --log"),
        (("--documents", "/nowhere"), "does not exist"),
    ],
)
def test_what_cannot_be_is_said_in_two_lines(
    flags: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    code = 8 if "--documents" in flags else 9
    told = ended(tmp_path / "r", *flags, code=code)
    assert said in told
    assert len(told.strip().splitlines()) <= 3


def test_a_worker_that_dies_ends_the_test_with_its_words(tmp_path: Path) -> None:
    out = tmp_path / "r"
    with liar("honest") as url:
        flags = ("--shape", "soak", "--users", "2", "--seconds", "300", "--url", url)
        with started(out, *flags) as process:
            records = out / "locust" / "records.jsonl"
            eventually(lambda: _require_lines(records, 10), within_s=180)
            begun = time.monotonic()
            _kill_locust(process.pid)
            _, told = process.communicate(timeout=180)
    assert process.returncode == 9, told
    assert "Locust ended" in told
    assert time.monotonic() - begun < 60, "of the 300 s that it would have taken"


def _kill_locust(pid: int) -> None:
    children = psutil.Process(pid).children(recursive=True)
    (locust,) = [child for child in children if "locust" in command_line(child)]
    locust.kill()
