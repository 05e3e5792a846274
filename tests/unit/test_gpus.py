"""What nvidia-smi says, from a script that stands in for it."""

from pathlib import Path

import pytest

from cloister import gpus
from cloister.errors import ToolError
from cloister.gpus import Card


def fake_nvidia_smi(
    folder: Path, monkeypatch: pytest.MonkeyPatch, printed: str, code: int = 0, body: str = ""
) -> Path:
    """Put the script on PATH; return the file in which it leaves its arguments."""
    (folder / "printed").write_text(printed)
    program = folder / "nvidia-smi"
    lines = ('printf "%s\\n" "$@" > "$0.asked"', body, 'cat "${0%/*}/printed"', f"exit {code}")
    program.write_text("\n".join(("#!/bin/sh", *lines, "")))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder / "nvidia-smi.asked"


def test_every_card_is_told_with_its_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = "0, NVIDIA H100 80GB HBM3, 81559, 1024, 37\n1, NVIDIA L4, 23034, 0, 0\n"
    asked = fake_nvidia_smi(tmp_path, monkeypatch, printed)
    assert gpus.cards() == (
        Card(0, "NVIDIA H100 80GB HBM3", 81559, 1024, 37),
        Card(1, "NVIDIA L4", 23034, 0, 0),
    )
    assert asked.read_text().splitlines() == [
        "--query-gpu=index,name,memory.total,memory.used,utilization.gpu",
        "--format=csv,noheader,nounits",
    ]


@pytest.mark.parametrize(
    ("line", "card"),
    [
        ("0, NVIDIA A100-SXM4-40GB, 40960, 5, [N/A]", Card(0, "NVIDIA A100-SXM4-40GB", 40960, 5)),
        ("3, NVIDIA GB10, [N/A], [N/A], 0", Card(3, "NVIDIA GB10", 0, 0, 0)),
        ("1, Tesla K20, 4742, 1, [Not Supported]", Card(1, "Tesla K20", 4742, 1)),
        ("0, Some, Card, 1000, 1, 2", Card(0, "Some, Card", 1000, 1, 2)),
    ],
)
def test_what_a_card_does_not_tell_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, card: Card
) -> None:
    fake_nvidia_smi(tmp_path, monkeypatch, f"{line}\n\n")
    assert gpus.cards() == (card,)


def test_without_nvidia_smi_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert gpus.cards() == ()


@pytest.mark.parametrize("code", [0, 6])
def test_a_driver_without_a_card_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    fake_nvidia_smi(tmp_path, monkeypatch, "No devices were found\n", code)
    assert gpus.cards() == ()


@pytest.mark.parametrize(
    "line",
    [
        "0, NVIDIA L4, 23034 MiB, 0 MiB, 0 %",
        "0, 23034, 0, 0",
        "[N/A], NVIDIA L4, 23034, 0, 0",
        "0, NVIDIA L4, [Unknown Error], [Unknown Error], [GPU requires reset]",
        "Unable to determine the device handle for GPU 0000:01:00.0: Unknown Error",
    ],
)
def test_a_line_without_figures_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    fake_nvidia_smi(tmp_path, monkeypatch, f"1, NVIDIA L4, 23034, 0, 0\n{line}\n")
    with pytest.raises(ToolError) as raised:
        gpus.cards()
    assert f"`nvidia-smi` printed `{line}`" in str(raised.value)


def test_a_driver_that_is_not_loaded_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
    fake_nvidia_smi(tmp_path, monkeypatch, f"{said}\n", 9)
    with pytest.raises(ToolError, match="ended with code 9") as raised:
        gpus.cards()
    assert said in str(raised.value)


def test_a_driver_that_hangs_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_nvidia_smi(tmp_path, monkeypatch, "", body="exec sleep 60")
    monkeypatch.setattr(gpus, "_TIMEOUT_S", 0.2)
    with pytest.raises(ToolError, match=r"did not end within 0\.2 s"):
        gpus.cards()
