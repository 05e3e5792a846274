"""The tuner on real vLLM, its CPU build: real restarts and curves, and what fails is survived."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from checkouts import Checkout
from conftest import Containers
from repetitions import REPETITIONS

# 64 GiB of KV cache are more than a container of 8 GiB may have, and no block has 7 tokens.
_KNOBS = """\
vllm-cpu:
  - {setting: vllm.max_num_seqs, role: sequences, values: [4], first: 4, moves: [queue limit]}
  - setting: vllm.kv_cache_gib
    role: memory
    values: [1, 2, 64]
    first: 64
    moves: [KV memory]
    only_up: true
  - {setting: --block-size, values: [32, 7], first: 32, moves: [host CPU, decode, prefill]}
"""
# A page takes some 20 s where other tests have the processors, and one has to end in the window.
_BRIEF = ("--workload", "quick", "--seconds", "15", "--first", "2", "--starts", "3")


@pytest.mark.usefixtures("vllm_image")
@pytest.mark.timeout(5400)
def test_a_tuning_survives_what_fails_and_up_takes_what_it_found(
    make_containers: Callable[..., Containers], tiny_model: Path, tmp_path: Path
) -> None:
    stack = make_containers(
        engine="vllm-cpu",
        model_folder=tiny_model,
        model_synthetic="true",
        vllm_load_format="dummy",
        vllm_eager="true",
        vllm_max_model_len=4096,
        vllm_max_pixels=401_408,
        ocr_max_tokens=128,  # noise goes on as long as it may
    )
    checkout = Checkout(tmp_path / "checkout", stack)
    (tmp_path / "knobs.yaml").write_text(_KNOBS)
    out = tmp_path / "out"
    checkout.tuned(
        *(*_BRIEF, "--turns", str(REPETITIONS.finalist_starts)),
        *("--knobs", str(tmp_path / "knobs.yaml"), "--out", str(out)),
        timeout_s=5000,
    )
    found = json.loads((out / "tuning.json").read_text())
    first, good, flag = found["trials"]
    assert first["failure"] == "OOM at start", first
    assert flag["failure"] == "bad flag", flag
    assert good["failure"] is None, good
    assert [rung["clients"] for rung in good["rungs"]] == [2, 4]
    assert all(rung["pages_per_s"]["value"] > 0 for rung in good["rungs"])
    assert good["kv_tokens"] > 4096, "as vLLM tells it"
    assert found["choice"]["configuration"]["vllm.kv_cache_gib"] == 1
    turns = [len(finalist["turns"]) for finalist in found["finalists"]]
    assert turns == [3] * REPETITIONS.finalist_starts, "three rates in open loop"
    assert found["engine_version"].startswith("0.32")
    (profile,) = (checkout.root / "tuned").iterdir()
    assert profile.name.endswith(f"{found['engine_version'].replace('+', '-')}.yaml")
    checkout.invoke("up", timeout_s=1800)
    assert checkout.settings()["vllm"]["kv_cache_gib"] == 1
    assert checkout.settings()["vllm"]["flags"] == ["--block-size=32"]
    command = " ".join(stack.container("vllm-nanonets-ocr-1").attrs["Args"])
    assert "--further=--block-size=32" in command
