"""The load test's client and general tools on the same server, by turns: what each says of it.

Without --url the server is a stub whose first text comes 100 ms after the page, then 49 chunks,
one every 20 ms. Every tool gets copies of the same pages, and no copy twice. What a page costs a
client is the processor time of all its processes between the first and the last tenth of the pages.
"""

import argparse
import itertools
import json
import operator
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from stubs import stub

from benchmarks import synthetic_model
from benchmarks.metering import Counts, Meter
from cloister import chat, config, console
from cloister.chat import Pass
from cloister.errors import LoadTestError
from cloister.loadtest import client, documents, measure, sampling, shapes, stages, workload
from cloister.loadtest.client import Crew
from cloister.loadtest.documents import Question
from cloister.loadtest.target import Target
from cloister.loadtest.workload import OutputLengths

_FIRST_MS, _CHUNK_MS, _CHUNKS = 100, 20, 50
_numbers = itertools.count()


@dataclass(frozen=True)
class Figures:
    """What a tool says of the server, and what a page cost it.

    `times` are TTFT's p50 and p95, and E2E's, in milliseconds, as `cpu` is; `means` are of both.
    """

    pages_per_s: float
    times: tuple[float, float, float, float]
    means: tuple[float, float]
    cpu: float

    @property
    def values(self) -> tuple[float, ...]:
        """What the table has of them."""
        return self.pages_per_s, *self.times, self.cpu


@dataclass(frozen=True)
class Work:
    """What is asked of each tool; `counts` are the server's own."""

    url: str
    model: str
    clients: int
    pages: int
    tokens: int
    drawn: Path
    tokenizer: Path
    counts: Callable[[], Counts]

    @property
    def question(self) -> Question:
        """What is asked of each page: answers of one length."""
        lengths = OutputLengths(median=self.tokens, least=self.tokens, most=self.tokens)
        return Question(self.model, "Read this page.", self.tokens, 0, lengths)

    def contents(self) -> Iterator[list[dict[str, Any]]]:
        """Yield a message for each page, with a copy that nobody has seen."""
        letters = documents.letters(self.drawn, self.question)
        while True:
            for letter in letters:
                body = json.loads(letter.body(next(_numbers), Random(0)))  # noqa: S311
                yield body["messages"][0]["content"]


def ours(work: Work, folder: Path) -> Figures:
    """Measure with `nox -s loadtest`'s own client."""
    target = Target(Pass(work.url), config.load().settings, "a server")
    load = shapes.closed(work.clients, 0)
    with client.started(folder, target, work.drawn, work.question, Crew(), 1) as locust:
        meter = Meter(locust.process.pid, work.counts)
        with meter.running():
            records, begun_s, over_s = stages.sent(locust, load, 0, _Pages(work.pages))
    stage = measure.stage(
        load,
        records,
        slo=workload.load("quick").slo,
        origin_s=begun_s,
        begun_s=begun_s,
        over_s=over_s,
    )
    if stage.faults or stage.ttft_s is None or stage.e2e_s is None:
        raise LoadTestError(f"the server did not answer all pages: {stage.faults}")
    first, whole = stage.ttft_s, stage.e2e_s
    times = (first.p50 * 1000, first.p95 * 1000, whole.p50 * 1000, whole.p95 * 1000)
    means = (first.mean * 1000, whole.mean * 1000)
    return Figures(stage.pages_per_s.value, times, means, meter.ms_a_page)


@dataclass(frozen=True)
class _Pages:
    """Patience for a number of pages."""

    pages: int

    def over(self, pages: int, elapsed_s: float) -> bool:  # noqa: ARG002
        """Tell whether all were answered."""
        return pages >= self.pages


def aiperf(program: str, work: Work, folder: Path) -> Figures:
    """Measure with NVIDIA's AIPerf."""
    lines = _listed(map(_parts, work.contents()), work, folder)
    asked = {"max_tokens": work.tokens, "ignore_eos": True, "temperature": 0}
    command = [program, "profile", "--model", work.model, "--url", work.url]
    command += ["--endpoint-type", "chat", "--streaming", "--extra-inputs", json.dumps(asked)]
    command += ["--concurrency", str(work.clients), "--request-count", str(work.pages)]
    command += ["--custom-dataset-type", "single_turn", "--input-file", str(lines)]
    command += ["--dataset-sampling-strategy", "sequential", "--tokenizer", str(work.tokenizer)]
    command += ["--use-server-token-count", "--no-server-metrics", "--ui", "none"]
    command += ["--output-artifact-dir", str(folder)]
    cpu = _metered(command, work, folder)
    said = json.loads(next(folder.rglob("profile_export_aiperf.json")).read_bytes())
    first, whole = said["time_to_first_token"], said["request_latency"]
    times = (first["p50"], first["p95"], whole["p50"], whole["p95"])
    means = (first["avg"], whole["avg"])
    return Figures(said["request_throughput"]["avg"], times, means, cpu)


def vllm_bench(program: str, work: Work, folder: Path) -> Figures:
    """Measure with vLLM's `vllm bench serve`."""
    lines = _listed(({"content": content} for content in work.contents()), work, folder)
    command = [program, "bench", "serve", "--backend", "openai-chat", "--base-url", work.url]
    command += ["--endpoint", "/v1/chat/completions", "--model", work.model]
    command += ["--tokenizer", str(work.tokenizer), "--disable-shuffle"]
    command += ["--dataset-name", "custom_image", "--dataset-path", str(lines)]
    command += ["--num-prompts", str(work.pages)]
    command += ["--max-concurrency", str(work.clients), "--ignore-eos", "--disable-tqdm"]
    command += ["--custom-output-len", str(work.tokens), "--extra-body", '{"temperature": 0}']
    command += ["--percentile-metrics", "ttft,e2el", "--metric-percentiles", "50,95"]
    command += ["--save-result", "--result-dir", str(folder), "--result-filename", "result.json"]
    cpu = _metered(command, work, folder)
    said = json.loads((folder / "result.json").read_bytes())
    times = (said["p50_ttft_ms"], said["p95_ttft_ms"], said["p50_e2el_ms"], said["p95_e2el_ms"])
    means = (said["mean_ttft_ms"], said["mean_e2el_ms"])
    return Figures(said["request_throughput"], times, means, cpu)


def _listed(pages: Iterator[dict[str, Any]], work: Work, folder: Path) -> Path:
    """Write as many pages as are asked for into a file, one a line."""
    path = folder / "pages.jsonl"
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(page) + "\n" for page in itertools.islice(pages, work.pages))
    return path


def _parts(content: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return a message's text and image, as AIPerf takes them."""
    by_type = {part["type"]: part for part in content}
    image = by_type["image_url"]["image_url"]["url"]
    return {"text": by_type["text"]["text"], "image": image}


def _metered(command: Sequence[str], work: Work, folder: Path) -> float:
    """Run a tool; return the milliseconds of a core that a page cost it."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        meter = Meter(process.pid, work.counts)
        with meter.running():
            code = process.wait()
    if code:
        last = (folder / "log").read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
        raise LoadTestError(f"`{command[0]}` ended with code {code}: " + "\n".join(last))
    return meter.ms_a_page


def _server(chosen: argparse.Namespace) -> AbstractContextManager[tuple[str, Callable[[], Counts]]]:
    """Return a server's URL, and what it has counted."""
    return nullcontext((chosen.url, _counts_of_vllm(chosen.url))) if chosen.url else _stubbed()


def _counts_of_vllm(url: str) -> Callable[[], Counts]:
    session = chat.session(Pass(url))

    def counts() -> Counts:
        found = sampling.engine(session, url)
        times = (f"{name}_seconds_sum" for name in ("time_to_first_token", "e2e_request_latency"))
        return Counts(found["request_success_total"], *(found[name] for name in times))

    return counts


@contextmanager
def _stubbed() -> Iterator[tuple[str, Callable[[], Counts]]]:
    with stub(first_ms=_FIRST_MS, chunk_ms=_CHUNK_MS, chunks=_CHUNKS) as served:
        yield served.url, lambda: Counts(served.counts()["completed"])


@dataclass(frozen=True)
class Turn:
    """A tool's figures, and the server's own means of the same pages, in milliseconds."""

    figures: Figures
    server: tuple[float, float]

    @property
    def off(self) -> tuple[float, ...]:
        """The tool's mean TTFT and E2E as multiples of the server's."""
        return tuple(map(operator.truediv, self.figures.means, self.server))


def _turn(tool: Callable[[Work, Path], Figures], work: Work, folder: Path) -> Turn:
    folder.mkdir()
    before = work.counts()
    figures = tool(work, folder)
    after = work.counts()
    pages = after.pages - before.pages
    means = (after.ttft_s - before.ttft_s, after.e2e_s - before.e2e_s)
    return Turn(figures, (means[0] / pages * 1000, means[1] / pages * 1000))


def _rows(found: dict[str, list[Turn]]) -> Iterator[tuple[str, ...]]:
    """Yield a row a tool: the medians of its turns, and those of its turns' ratios to ours."""
    for name, turns in found.items():
        columns = zip(*(turn.figures.values for turn in turns), strict=True)
        ours_too = zip(*(turn.figures.values for turn in found["ours"]), strict=True)
        row = [name]
        for values, own in zip(columns, ours_too, strict=True):
            ratio = median(value / one for value, one in zip(values, own, strict=True))
            row.append(f"{median(values):.4g} ({ratio:.3f})")
        row += [f"{median(off):.3f}" for off in zip(*(turn.off for turn in turns), strict=True)]
        yield tuple(row)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="nox -s bench-tools --", description=__doc__)
    parser.add_argument("--url", help="a server, vLLM or the gateway before it, not the stub")
    parser.add_argument("--model", default="stub", help="its name there")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--pages", type=int, default=640, help="each tool's, each turn")
    parser.add_argument("--tokens", type=int, default=_CHUNKS, help="of each answer")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--aiperf", default=shutil.which("aiperf"), metavar="PATH")
    parser.add_argument("--vllm", default=shutil.which("vllm"), metavar="PATH")
    chosen = parser.parse_args()
    tools: dict[str, Callable[[Work, Path], Figures]] = {"ours": ours}
    if chosen.aiperf:
        tools["AIPerf"] = lambda work, folder: aiperf(chosen.aiperf, work, folder)
    if chosen.vllm:
        tools["vllm bench serve"] = lambda work, folder: vllm_bench(chosen.vllm, work, folder)
    found: dict[str, list[Turn]] = {name: [] for name in tools}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        documents.draw(workload.load("quick"), 1, folder / "drawn")
        url, counts = stack.enter_context(_server(chosen))
        asked = (chosen.model, chosen.clients, chosen.pages, chosen.tokens)
        synthetic_model.write(folder / "tokenizer", "full")  # the others want one
        work = Work(url, *asked, folder / "drawn", folder / "tokenizer", counts)
        for turn in range(chosen.turns):
            for name, tool in tools.items():
                found[name].append(_turn(tool, work, folder / f"{turn} {name}"))
                console.say(f"{name}: {found[name][-1]}")
    columns = ("pages/s", "TTFT p50, ms", "p95", "E2E p50, ms", "p95", "CPU a page, ms")
    theirs = ("TTFT / server's own", "E2E / server's own")
    console.table(("the turns' median (ratio to ours)", *columns, *theirs), list(_rows(found)))


if __name__ == "__main__":
    main()
