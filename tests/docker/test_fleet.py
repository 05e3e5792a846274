"""A fleet of real vLLMs in containers: scaled, frozen, killed and rolled out under load."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Containers
from deployments import eventually
from fleets import events, happened, standings
from load import load
from load import until as sent
from pages import data_url, encoded, page, request

# On two cores a vLLM takes a minute to start beside another one that reads.
_STALL_S, _CANARY_S = 20, 15
_START_S = 300


@pytest.fixture(scope="module")
def fleet(make_containers: Callable[..., Containers], tiny_model: Path) -> Containers:
    made = make_containers(
        engine="vllm-cpu",
        model_folder=tiny_model,
        model_synthetic="true",
        vllm_load_format="dummy",
        vllm_eager="true",
        vllm_kv_cache_gib=1,
        vllm_max_model_len=4096,
        vllm_max_pixels=401_408,
        ocr_max_tokens=1024,
        healing_silence_s=_STALL_S,
        healing_stall_s=_STALL_S,
        healing_canary_s=_CANARY_S,
        gateway_slow_start_s=2,
    )
    made.invoke("up", timeout_s=_START_S)
    return made


@pytest.fixture(scope="module")
def synthetic_page() -> dict[str, Any]:
    return request(data_url(encoded(page("Page 2345"))), max_tokens=8, ignore_eos=True)


def test_one_to_two_under_load(fleet: Containers, synthetic_page: dict[str, Any]) -> None:
    with load(fleet.url, at_once=2, page=synthetic_page) as outcome:
        sent(outcome, 2)
        fleet.invoke("scale", "2", timeout_s=_START_S)
        assert standings(fleet) == {"vllm-1": "serving", "vllm-2": "serving"}
        sent(outcome, 4)
    assert outcome.lost == 0, str(outcome)
    assert fleet.verify()["vllm-2", "calling the hub"]["verdict"] == "sealed"


def test_a_core_that_freezes_is_found_though_health_says_ok(
    fleet: Containers, synthetic_page: dict[str, Any]
) -> None:
    rows = fleet.container("vllm-2").top(ps_args="-eo pid,comm")["Processes"]
    core = [int(pid) for pid, name in rows if name.startswith("VLLM::")]
    before = len(events(fleet, "vllm-2"))
    with load(fleet.url, at_once=4, page=synthetic_page) as outcome:
        sent(outcome, 2)
        for pid in core:
            os.kill(pid, signal.SIGSTOP)
        why = happened(fleet, "sick", "vllm-2", before, within_s=120)["why"]
        assert "without progress" in why or "not answered" in why
        happened(fleet, "recovered", "vllm-2", before, within_s=_START_S)
        sent(outcome, 2)
    assert outcome.lost == 0, str(outcome)


def test_a_container_that_is_killed_comes_back(
    fleet: Containers, synthetic_page: dict[str, Any]
) -> None:
    pid, before = fleet.pids()["vllm-1"], len(events(fleet, "vllm-1"))
    with load(fleet.url, at_once=2, page=synthetic_page) as outcome:
        sent(outcome, 2)
        os.kill(pid, signal.SIGKILL)
        happened(fleet, "sick", "vllm-1", before)
        happened(fleet, "recovered", "vllm-1", before, within_s=_START_S)
    assert outcome.lost == 0, str(outcome)
    assert fleet.pids()["vllm-1"] != pid


def test_a_rollout_and_back_to_one(fleet: Containers, synthetic_page: dict[str, Any]) -> None:
    before = fleet.container("gateway").id
    with load(fleet.url, at_once=2, page=synthetic_page) as outcome:
        said = fleet.invoke(
            *("rollout", "--set", "vllm.max_num_seqs=6"), timeout_s=2 * _START_S
        ).stdout
        assert "replaced vllm-1, vllm-2" in said
        fleet.invoke("scale", "1", timeout_s=_START_S)
        sent(outcome, 2)
    assert outcome.lost == 0, str(outcome)
    assert set(fleet.pids()) == {"vllm-1", "exporter", "gateway", "watchdog"}
    assert fleet.container("gateway").id == before
    assert "--max-num-seqs=6" in " ".join(fleet.container("vllm-1").attrs["Args"])


def test_no_container_has_the_docker_socket(fleet: Containers) -> None:
    for name in ("gateway", "exporter", "vllm-1"):
        mounts = fleet.container(name).attrs["Mounts"]
        assert not any("docker.sock" in str(mount) for mount in mounts)
    watchdog = fleet.pids()["watchdog"]
    assert "docker" not in Path(f"/proc/{watchdog}/cgroup").read_text()
    eventually(lambda: fleet.json("status"))
