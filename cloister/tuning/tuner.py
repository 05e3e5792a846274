"""A tuning from its first start to its recommendation; what was up before comes back."""

import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import cloister
from cloister import modelstore
from cloister.engines.vllm import memory as vllm_memory
from cloister.errors import TuningError
from cloister.layout import Layout
from cloister.loadtest import documents, running, workload
from cloister.loadtest.client import Crew
from cloister.statefolder import locked
from cloister.tuning import ceiling, choosing, knobs, search, server, trying
from cloister.tuning.finals import Finals
from cloister.tuning.knobs import Value
from cloister.tuning.ledger import Begun, Ledger
from cloister.tuning.memory import Memory
from cloister.tuning.pruning import fixed_percent
from cloister.tuning.result import Finalist, Tuning
from cloister.tuning.server import Bench, Progress
from cloister.tuning.trial import Trial
from cloister.tuning.trying import Work

Bar = Callable[[int, str], AbstractContextManager[Callable[[], None]]]


@dataclass
class Tuner:
    """One session of a tuning that was begun; `bar` shows how far the pages are drawn."""

    ledger: Ledger
    begun: Begun
    progress: Progress
    bar: Bar
    work: Work = field(init=False)
    bench: Bench = field(init=False)
    _session_s: float = field(init=False)
    _before_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.bench = Bench(self.begun.base, self.begun.space)
        self.work = self._work()
        self._session_s = time.monotonic()
        self._before_s = sum(trial.seconds for trial in self.ledger.trials())

    def run(self) -> Tuning:
        """Do what the ledger does not have yet, and return the whole.

        Raises what is in the way of any configuration; KeyboardInterrupt goes through. In any case
        what was up before is brought back. Two at once would take each other's servers down.
        """
        with locked(Layout(self.begun.base.state_dir).tuning_lock):
            return self._run()

    def _run(self) -> Tuning:
        try:
            self._draw()
            done = self._search()
            played = self._finals(done)
        finally:
            shutil.rmtree(self.work.pages.parent, ignore_errors=True)
            server.restore(self.begun.base, self.begun.previous, self.progress)
        return self._result(done, played)

    def _search(self) -> list[Trial]:
        done = self.ledger.trials()
        while (wanted := self._next(done)) is not None:
            number = len(done) + 1
            first = done[0].configuration if done else None
            self.progress(f"start {number}: {knobs.told(wanted, first)}")
            trial, version = trying.tried(
                wanted,
                self.bench.settings(wanted),
                self.work,
                self.ledger.trial_folder(number),
                self.progress,
            )
            self.ledger.keep_trial(number, trial, version)
            done.append(trial)
            self.progress(f"start {number}: {_told(trial)}")
        return done

    def _next(self, done: list[Trial]) -> dict[str, Value] | None:
        """Return the next configuration; None when all is tried, or starts or time are used up."""
        given = self.begun.given
        if given:
            return dict(given[len(done)]) if len(done) < len(given) else None
        if len(done) >= self.begun.starts or not self._time_for_another(done, finals_too=True):
            return None
        return self._promising(done)

    def _promising(self, done: list[Trial]) -> dict[str, Value] | None:
        return search.next_start(done, Memory(self.begun.space, self._fixed(done)))

    def _through(self, done: list[Trial], played: tuple[Finalist, ...]) -> bool:
        """Tell whether nothing was left out for want of time."""
        begun = self.begun
        searched = begun.given or len(done) >= begun.starts or self._promising(done) is None
        missing = bool(begun.turns and choosing.finals(done, begun.space)) and not played
        return bool(searched) and not missing

    def _finals(self, done: list[Trial]) -> tuple[Finalist, ...]:
        chosen = choosing.finals(done, self.begun.space)
        if not chosen or not self.begun.turns:
            return ()
        stage = Finals(self.bench, self.work, self.ledger, self.progress)
        return stage.played(
            chosen, self.begun.turns, lambda: self._time_for_another(done, finals_too=False)
        )

    def _time_for_another(self, done: list[Trial], *, finals_too: bool) -> bool:
        """Tell whether the budget has room for one more start, and for a final after it."""
        if not done:
            return True
        one_s = max(trial.seconds for trial in done)  # a start takes as long as the longest so far
        wanted = one_s * (2 if finals_too and self.begun.turns else 1)
        spent = self._before_s + time.monotonic() - self._session_s
        return spent + wanted <= self.begun.budget_s

    def _fixed(self, done: list[Trial]) -> float:
        """Return what a replica takes beside its KV cache, in the unit of the memory's knob.

        By the model's files until a server told its own KV cache.
        """
        hardware, space = self.begun.hardware, self.begun.space
        knob, folder = space.of("memory"), modelstore.folder(self.begun.base)
        if knob is None or not knob.setting.endswith("_percent") or folder is None:
            return 0.0
        need = vllm_memory.need(folder, self.begun.base.vllm.max_model_len)
        told = next((trial for trial in done if trial.kv_tokens), None)
        if told is None or need is None or not need.tokens:
            return fixed_percent(hardware, need)
        kv_mib = told.kv_tokens * need.kv_mib / need.tokens
        replicas = space.number(told.configuration, "replicas")
        percent = space.number(told.configuration, "memory")
        return max(0.0, (percent - kv_mib * 100 / hardware.memory_mib) / replicas)

    def _work(self) -> Work:
        begun, pages = self.begun, self.ledger.folder / "pages"
        return Work(
            name=begun.workload,
            mix=workload.load(begun.workload),
            seed=begun.seed,
            slo=begun.slo,
            pages=pages / "usual",
            worst=pages / "worst",
            seconds=begun.seconds,
            first=begun.first,
            last=begun.last,
            crew=Crew(begun.processes),
            command=begun.command,
        )

    def _draw(self) -> None:
        worst = trying.worst(self.work.mix)
        with self.bar(self.work.mix.documents + worst.documents, "pages drawn") as advance:
            documents.draw(self.work.mix, self.work.seed, self.work.pages, advance)
            documents.draw(worst, self.work.seed, self.work.worst, advance)

    def _result(self, done: list[Trial], played: tuple[Finalist, ...]) -> Tuning:
        begun = self.begun
        found = choosing.choose(done, begun.space, played)
        return Tuning(
            made_at=datetime.now(UTC).isoformat(timespec="seconds"),
            command=begun.command,
            version=cloister.VERSION,
            machine=running.machine(),
            runtime=begun.base.runtime,
            engine=begun.base.engine,
            engine_version=self.ledger.version(),
            card=begun.hardware.name,
            memory_mib=begun.hardware.memory_mib,
            model=begun.base.model.name,
            synthetic=begun.base.model.synthetic,
            workload=begun.workload,
            seed=begun.seed,
            slo=begun.slo,
            budget_s=begun.budget_s,
            space=begun.space,
            pruned=begun.pruned,
            trials=tuple(done),
            finalists=played,
            choice=found[0] if found else None,
            ceiling=self._ceiling(done),
            complete=self._through(done, played),
        )

    def _ceiling(self, done: list[Trial]) -> ceiling.Ceiling | None:
        kept = search.recommend(done, self.begun.space)
        rung = kept.trial.best if kept else None
        card = ceiling.card(self.begun.hardware.name)
        folder = modelstore.folder(self.begun.base)
        shape = ceiling.of_folder(folder) if folder else None
        if rung is None or card is None or shape is None:
            return None
        return ceiling.ceiling(
            shape,
            card,
            at_once=rung.clients,
            prompt_tokens=rung.prompt_tokens,
            output_tokens=rung.output_tokens,
        )


def require_choice(tuning: Tuning) -> None:
    """Raise TuningError when nothing served within the SLO."""
    if tuning.choice is not None:
        return
    failures = ", ".join(sorted({trial.failure for trial in tuning.trials if trial.failure}))
    reason = f": {failures}" if failures else ""
    raise TuningError(
        f"none of {len(tuning.trials)} configurations served pages within the SLO{reason}",
        hint="tuning.md has what each said; a looser --slo, or a smaller --last",
    )


def _told(trial: Trial) -> str:
    if trial.failure:
        return f"{trial.failure}: {trial.said}"
    rung = trial.best
    if rung is None:
        return "no number of clients kept the SLO"
    limited = f", limited by {trial.limit}" if trial.limit else ""
    return f"{rung.pages_per_s.value:.2f} pages/s with {rung.clients} clients{limited}"
