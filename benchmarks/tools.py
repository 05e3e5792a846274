"""Our load test, AIPerf and `vllm bench serve` against the same server, by turns.

The server is a stub of known timing, or one that is up at --url, such as vLLM's CPU build with a
tiny model. Each page differs from all others for each tool. Processor time is that of the tool's
whole tree of processes while pages are answered.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import yaml
from stubs import stub

from cloister import chat, console, corpus
from cloister.loadtest import unique
from cloister.loadtest.sampling import engine

_DPI, _TOKENS, _POLL_S = 100, 16, 0.5
_PROMPT = "Read it."


@dataclass(frozen=True)
class Server:
    """What is asked: its address, the model's name, how many pages it has answered."""

    url: str
    model: str
    answered: Callable[[], float]


@dataclass(frozen=True)
class Found:
    """What a tool says, in seconds, and what it costs in milliseconds of a core a page."""

    pages_per_s: float
    ttft_p50_s: float
    e2e_p50_s: float
    cpu_ms: float


def ours(server: Server, clients: int, seconds: float, folder: Path) -> Found:
    """Return what our report says."""
    mix = {
        "about": "letters",
        "documents": 8,
        "kinds": {"letter": 1},
        "finishes": {"clean": 1},
        "codecs": {"png": 1},
        "dpi": {_DPI: 1},
        "output_tokens": {"median": _TOKENS, "sigma": 0, "least": _TOKENS, "most": _TOKENS},
        "slo": {"ttft_p95_s": 60, "e2e_p95_s": 60, "fault_share": 0.01},
    }
    (folder / "letters.yaml").write_text(yaml.safe_dump(mix))
    out = folder / "ours"
    command = [sys.executable, "-m", "loadtests", "--url", server.url, "--model", server.model]
    command += ["--workload", str(folder / "letters.yaml"), "--synthetic", "--no-self-check"]
    command += ["--shape", "soak", "--users", str(clients), "--seconds", str(seconds)]
    cpu_ms = _run([*command, "--out", str(out)], folder, server)
    (stage,) = json.loads((out / "report.json").read_text())["stages"]
    rate, first, whole = stage["pages_per_s"]["value"], stage["ttft_s"], stage["e2e_s"]
    return Found(rate, first["p50"], whole["p50"], cpu_ms)


def aiperf(server: Server, clients: int, seconds: float, folder: Path, program: str) -> Found:
    """Return what AIPerf's export says."""
    pages = folder / "pages.jsonl"
    _copies(folder, pages, count=max(400, round(clients * seconds)))
    command = [program, "profile", "--url", server.url, "--model", server.model, "--streaming"]
    command += ["--endpoint-type", "chat", "--custom-dataset-type", "single_turn"]
    command += ["--input-file", str(pages), "--tokenizer", "builtin", "--use-server-token-count"]
    command += ["--concurrency", str(clients), "--benchmark-duration", str(seconds)]
    command += ["--warmup-request-count", str(2 * clients), "--ui", "none"]
    command += ["--output-artifact-dir", str(folder / "aiperf")]
    for name in ("max_tokens", "min_tokens"):
        command += ["--extra-inputs", f"{name}:{_TOKENS}"]
    cpu_ms = _run([*command, "--extra-inputs", "ignore_eos:true"], folder, server)
    (path,) = (folder / "aiperf").rglob("profile_export_aiperf.json")
    told = json.loads(path.read_text())
    first, whole = told["time_to_first_token"]["p50"], told["request_latency"]["p50"]
    return Found(told["request_throughput"]["avg"], first / 1000, whole / 1000, cpu_ms)


def vllm_bench(
    server: Server, clients: int, pages: int, folder: Path, image: str, model: Path
) -> Found:
    """Return what `vllm bench serve` saves; it runs in a container of vLLM's image."""
    width, height = _drawn(0).size
    out = folder / "vllm"
    out.mkdir()
    out.chmod(0o777)
    command = ["docker", "run", "--rm", "--network=host", "--entrypoint=vllm"]
    command += [f"--volume={model}:/model:ro", f"--volume={out}:/out", image, "bench", "serve"]
    command += ["--backend=openai-chat", f"--base-url={server.url}", f"--model={server.model}"]
    command += ["--endpoint=/v1/chat/completions", "--tokenizer=/model"]
    command += ["--dataset-name=random-mm", "--random-mm-base-items-per-request=1"]
    command += ["--random-mm-limit-mm-per-prompt", '{"image":1,"video":0}']
    command += ["--random-mm-bucket-config", f"{{({height}, {width}, 1): 1.0}}"]
    command += ["--random-input-len=10", f"--random-output-len={_TOKENS}", "--ignore-eos"]
    command += [f"--max-concurrency={clients}", f"--num-prompts={pages}"]
    command += [f"--num-warmups={clients}", "--percentile-metrics=ttft,e2el"]
    command += ["--save-result", "--result-dir=/out", "--result-filename=r.json"]
    cpu_ms = _run(command, folder, server)
    told = json.loads((out / "r.json").read_text())
    first, whole = told["median_ttft_ms"], told["median_e2el_ms"]
    return Found(told["request_throughput"], first / 1000, whole / 1000, cpu_ms)


def _run(command: list[str], folder: Path, server: Server) -> float:
    """Run a tool; return the milliseconds of a core that it used a page.

    Between the first tenth of the pages and the last: starting and reporting are not a page's.
    """
    log = folder / "log"
    before = server.answered()
    seen = list[tuple[float, float]]()
    with log.open("ab") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
        while process.poll() is None:
            seen.append((server.answered() - before, _used(process.pid, command[0])))
            time.sleep(_POLL_S)
    if process.returncode:
        sys.exit(f"{command[0]} ended with {process.returncode}:\n{log.read_text()[-2000:]}")
    total = server.answered() - before
    inside = [one for one in seen if total * 0.1 <= one[0] <= total * 0.9]
    (first, used), (last, used_later) = inside[0], inside[-1]
    return (used_later - used) / (last - first) * 1000


def _used(pid: int, program: str) -> float:
    """Return the seconds of a tool's processes; those of a container are not our children."""
    try:
        if program == "docker":
            tree = [one for one in psutil.process_iter() if "random-mm" in " ".join(one.cmdline())]
            tree = [one for one in tree if one.name() != "docker"]
        else:
            root = psutil.Process(pid)
            tree = [root, *root.children(recursive=True)]
        return sum(sum(one.cpu_times()[:2]) for one in tree)
    except psutil.NoSuchProcess:
        return 0.0  # one of them ended while they were counted


def _drawn(seed: int) -> Any:
    return corpus.render(corpus.generate("letter", seed).pdf, 0, _DPI)


def _copies(folder: Path, index: Path, count: int) -> None:
    originals = [unique.png(_drawn(seed)) for seed in range(8)]
    with index.open("w") as file:
        for number in range(count):
            path = folder / f"{number}.png"
            path.write_bytes(b64decode(originals[number % 8].copy(number)))
            file.write(json.dumps({"text": _PROMPT, "image": str(path)}) + "\n")


@contextmanager
def _server(url: str | None, model: str) -> Iterator[Server]:
    if url:
        with chat.session() as session:
            yield Server(url, model, lambda: engine(session, url).get("request_success_total", 0.0))
        return
    with stub(first_ms=100, chunk_ms=20, chunks=_TOKENS) as served:
        yield Server(served.url, "stub", lambda: float(served.counts()["completed"]))


def main() -> None:
    """Print a table of medians."""
    parser = argparse.ArgumentParser(prog="nox -s bench-tools --", description=__doc__)
    parser.add_argument("--url", help="a server in place of the stub")
    parser.add_argument("--model-name", default="stub")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--aiperf", required=True, help="the program, in an environment of its own")
    parser.add_argument("--image", help="vLLM's image, for `vllm bench serve`")
    parser.add_argument("--tokenizer", type=Path, help="a model's folder, for the same")
    chosen = parser.parse_args()
    found: dict[str, list[Found]] = {}
    with _server(chosen.url, chosen.model_name) as server:
        for _ in range(chosen.rounds):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                one = ours(server, chosen.clients, chosen.seconds, folder)
                found.setdefault("nox -s loadtest", []).append(one)
                other = aiperf(server, chosen.clients, chosen.seconds, folder, chosen.aiperf)
                found.setdefault("AIPerf", []).append(other)
                if chosen.image:
                    pages = round(one.pages_per_s * chosen.seconds)
                    third = vllm_bench(
                        server, chosen.clients, pages, folder, chosen.image, chosen.tokenizer
                    )
                    found.setdefault("vllm bench serve", []).append(third)
    columns = ("tool", "pages/s", "TTFT p50, ms", "E2E p50, ms", "CPU a page, ms")
    console.table(columns, [_row(name, rounds) for name, rounds in found.items()])


def _row(name: str, rounds: list[Found]) -> tuple[str, ...]:
    rate = median(one.pages_per_s for one in rounds)
    times = (median(one.ttft_p50_s for one in rounds), median(one.e2e_p50_s for one in rounds))
    cpu = median(one.cpu_ms for one in rounds)
    return name, f"{rate:.3f}", *(f"{value * 1000:.1f}" for value in times), f"{cpu:.2f}"


if __name__ == "__main__":
    main()
