"""How often tests repeat: every count that has two sizes, in one place.

`EVERY_RUN` is the smallest count that still has one of each kind. `SOAK` is for releases and
nights: `nox -s soak` sets TEST_REPETITIONS=soak. The name has no CLOISTER_ in front, because
Cloister refuses such a variable that is none of its settings.
"""

import os
from dataclasses import dataclass

_VARIABLE = "TEST_REPETITIONS"


@dataclass(frozen=True)
class Repetitions:
    """One size of every count."""

    # Requests over HTTP/1.1 in tests/stack/test_fuzz.py; a hundredth of them is the rarest kind.
    fuzzed_requests: int
    # Conversations over HTTP/2 in tests/stack/test_fuzz_http2.py.
    fuzzed_conversations: int
    # Reloads of a gateway under load in tests/stack/test_reload.py, for each way to answer.
    reloads: int
    # Downloads in tests/stack/test_download.py that are killed at random moments.
    random_downloads: int
    # Bytes of each shard of the model that those downloads bring.
    shard_bytes: int
    # Kills of `invoke ocr` at random moments in tests/stack/test_ocr_killed.py.
    random_kills: int
    # Changed bytes of a bundle in tests/stack/test_bundle.py: its first three are named files.
    script_flips: int
    # Changed bytes of a bundle with images in tests/docker/test_bundle.py: four of them are named
    # files, the others fall into any file and onto any byte, by halves.
    image_flips: int
    # Examples of a property test that names no number of its own.
    examples: int
    # Files and edits in tests/unit/test_config_edit.py.
    edits: int
    # Sequences of commands in tests/unit/test_interleavings.py.
    interleavings: int
    # Simulated servers in tests/unit/test_tuning_search.py.
    servers: int
    # Generated forms and tables of each kind, of four, in tests/unit/test_ocr_judging.py.
    forms: int
    # Requests in tests/stack/test_sockets.py that are counted while the exporter is stopped.
    counted_requests: int
    # Starts of each finalist of a tuning on real vLLM in tests/docker/test_tune.py. Every run has
    # those of tests/stack/test_tune.py, on a stand-in, and `up` starts the choice on real vLLM.
    finalist_starts: int
    # Bytes of each costly JSON body in tests/stack/test_json_bodies.py and on real vLLM in
    # tests/docker/test_vllm.py. Every run has the costliest at its full size too.
    json_bytes: int
    # Kills of each process of a service in tests/stack/test_kills.py; every run has one kill of the
    # few that are of a kind of their own.
    kills: int
    # Reboots of a Docker engine in tests/docker/test_reboot.py, for each way to end it.
    reboots: int
    # By how much each time-out is longer (tests/conftest.py).
    patience: int = 1


EVERY_RUN = Repetitions(
    fuzzed_requests=2_000,
    fuzzed_conversations=300,
    reloads=10,
    random_downloads=0,
    shard_bytes=1_000_000,
    random_kills=0,
    script_flips=6,
    image_flips=12,
    examples=40,
    edits=200,
    interleavings=30,
    servers=60,
    forms=10,
    counted_requests=2_000,
    finalist_starts=0,
    json_bytes=3 << 20,
    kills=1,
    reboots=1,
)
SOAK = Repetitions(
    fuzzed_requests=10_000,
    fuzzed_conversations=1_000,
    reloads=50,
    random_downloads=50,
    shard_bytes=5_000_000,
    random_kills=6,
    script_flips=24,
    image_flips=200,
    examples=100,
    edits=5_000,
    interleavings=100,
    servers=200,
    forms=50,
    counted_requests=10_000,
    finalist_starts=1,
    json_bytes=49 << 20,
    kills=5,
    reboots=10,
    patience=10,
)


def _chosen() -> Repetitions:
    named = os.environ.get(_VARIABLE, "")
    if named not in {"", "soak"}:
        raise ValueError(f"{_VARIABLE} is `{named}`; it is `soak` or not set")
    return SOAK if named else EVERY_RUN


REPETITIONS = _chosen()
