"""Replicas on cards that this machine does not have: an nvidia-smi and a vLLM of the tests' own."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from deployments import Stack, deployed
from fleets import Faulty


@pytest.fixture
def fleet() -> Iterator[Stack]:
    folder = Path(tempfile.mkdtemp(prefix="cloister-vllm-"))
    folder.chmod(0o755)
    faulty = Faulty(folder)
    faulty.cards(("NVIDIA L4", 23_034), ("NVIDIA H100 80GB HBM3", 81_559))
    with deployed(**{**faulty.settings, "engine": "vllm-cuda"}) as stack:
        stack.settings |= faulty.environment
        yield stack
    shutil.rmtree(folder)


def placed(stack: Stack) -> dict[str, tuple[str, str]]:
    """Return each replica's card and its share, as its process was told."""
    found = {}
    for name, pid in stack.pids().items():
        if name.startswith("vllm-nanonets-ocr"):
            process = psutil.Process(pid)
            (share,) = [w for w in process.cmdline() if w.startswith("--gpu-memory-utilization")]
            found[name] = (process.environ()["CUDA_VISIBLE_DEVICES"], share.partition("=")[2])
    return found


def test_replicas_are_placed_on_cards_and_share_them(fleet: Stack) -> None:
    fleet.invoke("up")
    assert placed(fleet) == {"vllm-nanonets-ocr-1": ("1", "0.90")}, "the larger card first"
    error = fleet.invoke("scale", "3", code=6).stderr
    assert "--per-gpu" in error
    assert placed(fleet) == {"vllm-nanonets-ocr-1": ("1", "0.90")}
    plan = fleet.invoke("scale", "3", "--per-gpu", "2", "--plan").stdout
    assert "vllm-nanonets-ocr-3 at" in plan
    assert "on GPU 1, 45 % of its memory" in plan
    order = [
        plan.index(step)
        for step in (
            "start vllm-nanonets-ocr-2",
            "replace vllm-nanonets-ocr-1",
            "start vllm-nanonets-ocr-3",
        )
    ]
    assert order == sorted(order)
    assert "pause" not in plan, "the one on the free card reads meanwhile"
    fleet.invoke("scale", "3", "--per-gpu", "2")
    assert placed(fleet) == {
        "vllm-nanonets-ocr-1": ("1", "0.45"),
        "vllm-nanonets-ocr-2": ("0", "0.90"),
        "vllm-nanonets-ocr-3": ("1", "0.45"),
    }
    shown = {p["name"]: p["gpu"] for p in fleet.json("status")["programs"]}
    assert (shown["vllm-nanonets-ocr-2"], shown["vllm-nanonets-ocr-3"]) == (0, 1)
    fleet.invoke("scale", "1", "--gpus", "0")
    assert placed(fleet) == {"vllm-nanonets-ocr-1": ("0", "0.90")}
    assert "has no GPU 7" in fleet.invoke("scale", "1", "--gpus", "0,7", code=6).stderr
    assert "gpus: [0]" in (fleet.state / "cloister.yaml").read_text()
