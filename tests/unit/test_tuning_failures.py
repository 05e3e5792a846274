"""Why a server did not start, in the words of real logs."""

import pytest

from cloister.tuning.failure import classify
from cloister.tuning.trial import Failure

# Lines as vLLM, torch, argparse and the kernel's victims leave them.
_LOGS: dict[str, Failure] = {
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.": "OOM at start",
    "ValueError: No available memory for the cache blocks. Try increasing": "OOM at start",
    "Free memory on device is less than desired GPU memory utilization (0.93)": "OOM at start",
    "ValueError: To serve at least one request with the model's max seq len": "OOM at start",
    "ValueError: Available memory on node 0 (5.12/8.0 GiB) on kv cache allocation is less than "
    "requested memory for kv (64.0 GiB).": "OOM at start",
    "RuntimeError: DefaultCPUAllocator: can't allocate memory": "OOM at start",
    "api_server.py: error: unrecognized arguments: --fast": "bad flag",
    "vllm serve: error: argument --stream-interval: invalid int value": "bad flag",
    "pydantic_core._pydantic_core.ValidationError: 1 validation error": "bad flag",
    "ValueError: max_num_batched_tokens (512) is smaller than 18432.": "bad flag",
    "RuntimeError: CUDA error: unknown error": "driver",
    "RuntimeError: Found no NVIDIA driver on your system.": "driver",
    "RuntimeError: Failed to infer device type": "driver",
    "KeyError: 'model.layers.0'": "crash",
}


@pytest.mark.parametrize(("line", "failure"), _LOGS.items())
def test_the_line_that_says_why_is_found(line: str, failure: Failure) -> None:
    log = f"INFO 11-27 starting\n(EngineCore pid=7) ERROR {line}\n"
    found, said = classify(log, "vllm-nanonets-ocr-1 ended (exited)", alive=False, loaded=False)
    assert found == failure
    if failure != "crash":
        assert line[:60] in said


def test_the_same_while_serving_is_of_the_load() -> None:
    log = "torch.OutOfMemoryError: CUDA out of memory."
    assert classify(log, "", alive=False, loaded=True)[0] == "OOM under load"


def test_a_container_over_its_limit_says_nothing_itself() -> None:
    told = (
        "vllm-nanonets-ocr-1 ended\n"
        "out of memory: it went over its limit (`docker.engine_memory_mib`)"
    )
    assert classify("INFO loading", told, alive=False, loaded=False)[0] == "OOM at start"


def test_one_that_is_still_starting_ran_out_of_time() -> None:
    found, said = classify(
        "INFO loading\n", "no page was read within 1200 s", alive=True, loaded=False
    )
    assert (found, said) == ("time-out", "no page was read within 1200 s")


def test_one_that_reads_nonsense_is_told() -> None:
    told = "it answers but cannot read, so it gets no pages: other text"
    assert classify("", told, alive=True, loaded=False)[0] == "cannot read"


def test_a_silent_end_is_a_crash() -> None:
    assert classify("", "", alive=False, loaded=True) == ("crash", "it said nothing")
