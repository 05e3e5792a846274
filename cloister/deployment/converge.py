"""From what runs to what is recorded, a step at a time; every step can be killed and run again."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from cloister.deployment import gauges, reading, record
from cloister.deployment.doorkeeper import Doorkeeper
from cloister.deployment.plan import Plan, of, programs, with_names
from cloister.deployment.reading import Progress
from cloister.deployment.record import Record, Standing, wider
from cloister.deployment.steps import Step, steps
from cloister.engines import ENGINES
from cloister.events import Journal
from cloister.runtimes import BESIDE, GATEWAY, RUNTIMES, Changes, Program, Runtime

_POLL_S = 0.25


@dataclass(frozen=True)
class Convergence:
    """One deployment on its way from a record, None where nothing was up, to another."""

    before: Record | None
    target: Record
    door: Doorkeeper
    journal: Journal
    progress: Progress

    @cached_property
    def running(self) -> Runtime:
        """The runtime, with the settings that are to be."""
        return RUNTIMES[self.target.settings.runtime].make(self.target.settings)

    @cached_property
    def planned(self) -> Plan:
        """What is to run."""
        return of(self.target)

    @cached_property
    def wanted(self) -> tuple[Program, ...]:
        """The programs that are to run."""
        return programs(self.planned, self.running.model())

    @cached_property
    def changes(self) -> Changes:
        """What is not yet as it is to be."""
        return self.running.changes(self.wanted)

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """What is to be done to the replicas."""
        return steps(of(self.before) if self.before else None, self.planned, self._replicas)

    def run(self, only: frozenset[str] | None = None) -> tuple[str, ...]:
        """Do it, to `only` some replicas if they are named; return the programs (re)started.

        Raises DeploymentError when a replica does not come to read; those after it are then as
        they were.
        """
        todo = [step for step in self.steps if only is None or set(step.names) <= only]
        self.door.adopt(self._adopted)
        started = list(self._beside_replicas())
        self._admit(tuple(name for name in self._waiting() if only is None or name in only))
        for step in todo:
            self.progress(str(step))
            if step.action == "stop":
                self._stop(step.names)
            else:
                started += self._bring(step)
        self._keep_images()
        return tuple(started)

    def restart(self, name: str) -> None:
        """Stop and start one replica, after its pages; it gets new ones when it has read one."""
        # Nothing is asked of Compose, whose files may be wrong by now.
        self._drain((name,), is_gateway_new=False)
        self.report_stop((name,))
        self.running.halt(name)
        self.running.start(name)
        self.journal.note("started", name)
        self._admit((name,))

    def report_stop(self, names: Collection[str]) -> None:
        """Report that programs which run are waited for until they have stopped."""
        there = programs(of(self.before or self.target), None)
        waits_s = [program.stop_wait_s for program in there if program.name in names]
        if waits_s:
            named = ", ".join(sorted(names))
            self.progress(f"waiting for {named} to stop, at most {max(waits_s)} s")

    @property
    def _replicas(self) -> Changes:
        """The changes, without those of the programs beside the replicas."""
        found, ours = self.changes, frozenset(self.planned.names)
        return Changes(found.added & ours, found.changed & ours, found.removed - BESIDE)

    def _adopted(self, now: Record | None) -> Record:
        """Return the target, with what the watchdog found out since the command began."""
        # Forgotten before they are replaced: killed in between, the next call finds out.
        touched = self.changes.added | self.changes.changed
        known = (now.images if now else {}).items()
        images = {name: image for name, image in known if name not in touched}
        standings = self._standings(now or self.before)
        wide, were = self._wide, now.standings if now else {}
        standings |= {name: were.get(name, "draining") for name in of(wide).names[len(standings) :]}
        return wide.model_copy(update={"standings": standings, "images": images})

    @cached_property
    def _wide(self) -> Record:
        """The target, with the replicas that stop later and read on until then.

        Where they would be others than those that run, or none of them runs, it is the target.
        """
        before, target = self.before, self.target
        stopping = {name for step in self.steps if step.action == "stop" for name in step.names}
        if before is None or before.settings.replicas <= target.settings.replicas:
            return target
        if bool(before.seats) < bool(target.seats):
            return target
        wide = wider(target, before)
        old, new = of(before).replicas, of(wide).replicas
        going = list(zip(old, new, strict=True))[target.settings.replicas :]
        same = all((a.name, a.listener) == (b.name, b.listener) for a, b in going)
        return wide if same and all(one.name in stopping for one, _ in going) else target

    def _narrowed(self, now: Record) -> Record:
        """Return a record without the replicas that are to stop."""
        standings = {name: now.standings[name] for name in self.planned.names}
        settings, seats = self.target.settings, self.target.seats
        return now.model_copy(update={"settings": settings, "seats": seats, "standings": standings})

    def _keep_images(self) -> None:
        """Record of what images the containers are; one that is recorded already stays."""
        told = {one.name: one.image for one in self.running.states() if one.image}
        if told:
            self.door.edit(lambda now: now.model_copy(update={"images": {**told, **now.images}}))

    def _standings(self, now: Record | None) -> dict[str, Standing]:
        """Return how the replicas begin: those that run and got pages go on to.

        The sick ones are the watchdog's; the others have to read a page first.
        """
        were = now.standings if now else {}
        at_once = [step for step in self.steps if step.action == "replace" and len(step.names) > 1]
        fresh = self.changes.added.union(*(step.names for step in at_once))
        kept = {"serving"} | ({"sick"} if self.target.settings.healing.enabled else set())
        return {
            name: were[name] if were.get(name) in kept and name not in fresh else "unproven"
            for name in self.planned.names
        }

    def _waiting(self) -> tuple[str, ...]:
        """Return the replicas that run as they are to, and have to read a page first."""
        touched = self.changes.added | self.changes.changed
        standings = self._standings(self.before)
        return tuple(
            name
            for name in self.planned.names
            if standings[name] == "unproven" and name not in touched
        )

    def _beside_replicas(self) -> tuple[str, ...]:
        """Bring gateway, exporter, watchdog and what the user added to what they are to be."""
        if gone := self.changes.removed & BESIDE:
            self.running.remove(gone)
        todo = (self.changes.added | self.changes.changed) - frozenset(self.planned.names)
        if not todo:
            return ()
        if self.before and (stopping := todo & self.changes.changed):
            self.report_stop(stopping)
        started = self.running.apply(self.wanted, todo)
        self.door.edit(lambda now: now.with_taken(started))
        return started

    def _bring(self, step: Step) -> tuple[str, ...]:
        if step.action == "replace":
            self._drain(step.names, is_gateway_new=self._is_gateway_new)
            self.report_stop(step.names)
        started = self.running.apply(self.wanted, frozenset(step.names))
        for name in started:
            self.journal.note("started", name)
        self._admit(step.names)
        return started

    @property
    def _is_gateway_new(self) -> bool:
        return GATEWAY in self.changes.added | self.changes.changed

    def _drain(self, names: tuple[str, ...], *, is_gateway_new: bool) -> None:
        """Let replicas finish their pages, but for those that are sick and would never."""
        were = self.before.standings if self.before else {}
        self._wait_for_another(names)
        self.door.move(names, "draining", why="it is to be replaced")
        well = [name for name in names if were.get(name) in {"serving", "cold"}]
        self._wait_for_pages(well, is_gateway_new=is_gateway_new)

    def _wait_for_another(self, names: tuple[str, ...]) -> None:
        """Let the watchdog bring a sick replica back first, where no other one reads meanwhile."""

        def another() -> bool:
            now = record.required(self.target.settings)
            others = [name for name in now.standings if name not in names]
            return any(map(now.serves, others)) or not any(
                now.standings[name] == "sick" for name in others
            )

        if another():
            return
        ready_s = ENGINES[self.planned.engine].ready_s
        self.progress(f"waiting for another replica that reads, at most {ready_s:g} s")
        Retrying(
            retry=retry_if_result(lambda there: not there),
            stop=stop_after_delay(ready_s),
            wait=wait_fixed(_POLL_S),
            retry_error_callback=lambda _: None,  # it does not come back, and this one has to go
        )(another)

    def _stop(self, names: tuple[str, ...]) -> None:
        # The gateway forgot replicas of another kind when the record was adopted.
        known, is_gateway_new = set(names) & set(of(self._wide).names), self._is_gateway_new
        if known:
            self.door.move(sorted(known), "draining", why="it is not wanted any more")
        self._wait_for_pages(names, is_gateway_new=is_gateway_new)
        if known:
            self.door.edit(self._narrowed)
        self.report_stop(names)
        self.running.remove(frozenset(names))
        for name in names:
            self.journal.note("stopped", name, "it is not wanted any more")

    def _wait_for_pages(self, names: Sequence[str], *, is_gateway_new: bool) -> None:
        old = with_names(self.before or self.target, names)
        known = [replica for replica in old.replicas if replica.name in names]
        if not known:
            return
        named, most_s = ", ".join(one.name for one in known), old.settings.gateway.timeout_s
        finish = "which finish their pages" if len(known) > 1 else "which finishes its pages"
        self.progress(f"waiting for {named}, {finish}, at most {most_s} s")
        there = RUNTIMES[old.settings.runtime].make(old.settings)
        if not reading.drained(old, there, known, is_gateway_new=is_gateway_new):
            why = f"{named} had pages after {most_s} s, or did not say how many"
            self.journal.note("not drained", why=why)

    def _admit(self, names: tuple[str, ...]) -> None:
        """Give the gateway replicas that have read a page; beside others that are busy, slowly."""
        if not names:
            return
        new = [replica for replica in self.planned.replicas if replica.name in names]
        ready_s = ENGINES[self.planned.engine].ready_s
        with self.running.session() as session:
            for replica in new:
                self.progress(f"waiting for {replica.name} to read a page, at most {ready_s:g} s")
                page = reading.first_page(
                    self.planned, self.running, session, replica.url, replica.name
                )
                self.journal.note("read a page", replica.name, page_s=round(page.seconds, 3))
            warm = [one for one in self.planned.replicas if one.name not in names]
            if gauges.total(session, warm, gauges.RUNNING):
                self.door.move(names, "cold", why="it has read a page, and others are busy")
                slow_s = self.planned.settings.gateway.slow_start_s
                self.progress(f"letting {', '.join(names)} warm up, at most {slow_s:g} s")
                reading.warm_up(self.planned, session, new)
        self.door.move(names, "serving", why="it has read a page")
