"""The engines' health check, run inside their containers: starting, idle, busy and hung apart.

An engine's /health answers as long as its web server lives, also when nothing is read any more.
So this looks at what the engine does: while it has requests, tokens must come out of it within
`--stall-s`; while it has none, it must answer one of one token. Standard library only.
"""

import argparse
import base64
import json
import os
import re
import struct
import sys
import time
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from cloister.endpoint import Endpoint, parse
from cloister.inside.ask import Answer, ask

Verdict = Literal["starting", "idle", "busy", "hung", "failed"]
_PROGRESS = (
    "vllm:generation_tokens_total",
    "vllm:prompt_tokens_total",
    "vllm:request_success_total",
)
_LOAD = ("vllm:num_requests_running", "vllm:num_requests_waiting")
_CANARY_SIDE = 56  # pixels: four tokens for Qwen2.5-VL
_BUSY = 503
_NUMBER = re.compile(r"[+-]?[0-9]{1,20}(?:\.[0-9]{0,20})?(?:e[+-]?[0-9]{1,2})?")
_MEMORY = Path("/tmp/cloister-health.json")  # noqa: S108  # the container's own


@dataclass(frozen=True)
class Sight:
    """The engine's progress when it was last seen to make any: a counter, and when (seconds)."""

    progress: float
    at_s: float


def totals(exposition: str) -> dict[str, float]:
    """Return each metric of a Prometheus page, summed over its labels; other lines are left out."""
    sums: dict[str, float] = {}
    for line in exposition.splitlines():
        if line and not line.startswith("#"):
            name = line.partition("{")[0].partition(" ")[0]
            number = line.rpartition(" ")[2]
            if name and _NUMBER.fullmatch(number):
                sums[name] = sums.get(name, 0.0) + float(number)
    return sums


def judge(
    now: Mapping[str, float], last: Sight | None, *, at_s: float, stall_s: float
) -> tuple[Verdict, Sight]:
    """Return the verdict from the metrics alone and what to remember; pure.

    `idle` says that metrics cannot tell, and that a canary has to.
    """
    progress = sum(now.get(name, 0.0) for name in _PROGRESS)
    load = sum(now.get(name, 0.0) for name in _LOAD)
    # A counter that went back is a restarted engine.
    moved = last is None or progress != last.progress
    sight = Sight(progress, at_s) if moved or load == 0 or last is None else last
    if load == 0:
        return "idle", sight
    return ("hung" if at_s - sight.at_s > stall_s else "busy"), sight


def canary() -> str:
    """Return the request of one token over the smallest page there is."""
    row = b"\0" + b"\xff" * _CANARY_SIDE
    header = struct.pack(">IIBBBBB", _CANARY_SIDE, _CANARY_SIDE, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(row * _CANARY_SIDE)), (b"IEND", b""))
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    url = "data:image/png;base64," + base64.b64encode(png).decode()
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "?"}]
    message = {"role": "user", "content": content}
    return json.dumps({"messages": [message], "max_tokens": 1, "temperature": 0})


def check(url: str, memory: Path, *, stall_s: float, timeout_s: float) -> tuple[Verdict, str]:
    """Look at the engine at `url`; `memory` is a file that outlives this check."""
    metrics = ask(f"{url}/metrics", timeout_s=timeout_s)
    if metrics.status == 0:
        return "starting", metrics.body
    last = Sight(**json.loads(memory.read_text())) if memory.exists() else None
    verdict, sight = judge(totals(metrics.body), last, at_s=time.time(), stall_s=stall_s)
    memory.write_text(json.dumps(asdict(sight)))
    if verdict != "idle":
        return verdict, f"has requests, last progress {time.time() - sight.at_s:.0f} s ago"
    answer = ask(f"{url}/v1/chat/completions", canary(), timeout_s=timeout_s)
    return _canary_verdict(answer)


def _canary_verdict(answer: Answer) -> tuple[Verdict, str]:
    if answer.status == _BUSY:  # the queue filled up between the two questions
        return "busy", answer.body
    if answer.status == 0:
        return "hung", f"the canary: {answer.body}"
    if answer.status >= 400:  # noqa: PLR2004  # HTTP's first error
        return "failed", f"the canary: HTTP {answer.status} {answer.body}"
    return "idle", "answered the canary"


def _listens() -> Endpoint:
    """Return where the engine of this container listens, which its environment may say."""
    return parse(os.environ.get("CLOISTER_HEALTH_AT", "unix:/run/listen/sock"))


def main() -> None:
    """Print the verdict; end with 0 when it is idle or busy, else with 1."""
    parser = argparse.ArgumentParser(prog="cloister.inside.health", description=__doc__)
    parser.add_argument("--stall-s", type=float, default=120.0)
    parser.add_argument("--timeout-s", type=float, default=15.0)
    options = parser.parse_args()
    verdict, detail = check(
        _listens().url, _MEMORY, stall_s=options.stall_s, timeout_s=options.timeout_s
    )
    sys.stdout.write(f"{verdict}: {detail[:300]}\n")
    sys.exit(0 if verdict in {"idle", "busy"} else 1)


if __name__ == "__main__":
    main()
