"""The documented ways out are those that are tried."""

import os

import pytest
from ways_out import PAGE, UNKNOWN, judge, read_measured, write


def test_the_documented_ways_out_are_those_that_are_tried() -> None:
    documented = PAGE.read_text(encoding="utf-8")
    text = write(documented, read_measured(documented))
    if text != documented and os.environ.get("CLOISTER_REGENERATE") == "1":
        PAGE.write_text(text, encoding="utf-8")
        pytest.fail(f"rewrote {PAGE}; look at the difference and run without the variable")
    assert text == documented


def test_every_way_out_was_measured() -> None:
    measured = read_measured(PAGE.read_text(encoding="utf-8"))
    assert [name for name, cells in measured.items() if UNKNOWN in cells] == []


def test_what_was_measured_stays_with_its_name() -> None:
    documented = PAGE.read_text(encoding="utf-8")
    measured = dict.fromkeys(read_measured(documented), ("shut, ENODEV", "**open**", "open"))
    assert len(measured) > 40
    filled = write(documented, measured)
    assert filled.count("| shut, ENODEV | **open** | open |") == len(measured)
    assert read_measured(filled) == measured
    del measured["io_uring"]
    assert "| io_uring | all | ? | ? | ? |" in write(documented, measured)


@pytest.mark.parametrize(
    ("verdict", "evidence", "cells"),
    [
        (
            "sealed",
            "Network is unreachable (ENETUNREACH); a container that is not sealed: pong",
            ("shut, ENETUNREACH", "open"),
        ),
        (
            "sealed",
            "no interface but lo; a container that is not sealed: a (EPERM)",
            ("shut, no interface but lo", "open"),
        ),
        (
            "sealed",
            "no interface but lo; this machine itself, and no container: pong",
            ("shut, no interface but lo", "open"),
        ),
        (
            "absent",
            "nothing to reach from here: no (EPROTONOSUPPORT)",
            ("shut", "nothing to reach"),
        ),
        ("open", "reached: pong", ("**open**", "open")),
        ("unproven", "not tried to its end: timed out", ("?", "?")),
    ],
)
def test_a_finding_is_two_cells(verdict: str, evidence: str, cells: tuple[str, str]) -> None:
    assert judge({"verdict": verdict, "evidence": evidence}) == cells
