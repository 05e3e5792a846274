"""Commands in any order, killed at any step: no page is lost, and the wanted state is reached.

The runtime is a model that knows what runs; everything above it is the real thing. It is killed
after any number of its calls, as a command is by kill -9.
"""

import contextlib
import functools
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from repetitions import REPETITIONS

from cloister import chat, config, deployment, gateway
from cloister.config import Settings
from cloister.deployment import record
from cloister.deployment.doorkeeper import _write as real_write
from cloister.deployment.plan import of, programs
from cloister.errors import CloisterError, DeploymentError
from cloister.gateway import Place
from cloister.layout import Layout
from cloister.runtimes import (
    EXPORTER,
    GATEWAY,
    RUNTIMES,
    WATCHDOG,
    Changes,
    Program,
    ProgramState,
)

READING = chat.Reading("2345", "stop", "model", 1, 0.01)
BROKEN = 66  # a queue depth with which a replica of this model never reads


class Killed(BaseException):
    """What kill -9 is to a command."""


@dataclass
class World:
    """What runs, which of it has read a page, and what the gateway was told last."""

    state: Path
    there: dict[str, Program] = field(default_factory=dict)
    proven: set[str] = field(default_factory=set)
    images: dict[str, str] = field(default_factory=dict)
    told: str = ""
    calls_left: int | None = None

    def step(self) -> None:
        """Count a call, and die of it when it is the one."""
        if self.calls_left is not None:
            self.calls_left -= 1
            if self.calls_left < 0:
                raise Killed

    def gets_pages(self, name: str) -> bool:
        """Tell whether the gateway, as it was told, gives pages to a replica."""
        lines = [line for line in self.told.splitlines() if line.endswith(f"# {name}")]
        return bool(lines) and " down" not in lines[0]

    def check(self) -> None:
        """Whoever gets pages runs, and has read one since it began."""
        if GATEWAY in self.there:
            for name in {
                line.rpartition("# ")[2] for line in self.told.splitlines() if "#" in line
            }:
                if "tesseract-" in name and self.gets_pages(name):
                    assert name in self.there, f"{name} gets pages and does not run"
                    assert name in self.proven, f"{name} gets pages and never read one"

    def end(self, name: str) -> None:
        assert not (GATEWAY in self.there and self.gets_pages(name)), f"{name} ended with pages"
        self.there.pop(name, None)
        self.proven.discard(name)


class ModelRuntime:
    """A runtime over that world."""

    def __init__(self, world: World, chosen: Settings) -> None:
        self.world, self.settings = world, chosen

    def check(self) -> None:
        """Nothing is missing here."""

    def check_gateway(self, files: Callable[[Place], Mapping[str, str]]) -> None:
        files(self.place())

    def place(self) -> Place:
        return Place(self.world.state / "gateway", self.world.state / "logs")

    def model(self) -> None:
        return None

    def changes(self, wanted: tuple[Program, ...]) -> Changes:
        there = self.world.there
        names = {program.name for program in wanted}
        return Changes(
            frozenset(names - set(there)),
            frozenset(p.name for p in wanted if p.name in there and there[p.name] != p),
            frozenset(set(there) - names),
        )

    def apply(self, wanted: tuple[Program, ...], only: AbstractSet[str]) -> tuple[str, ...]:
        found = self.changes(wanted)
        for program in wanted:
            if program.name in only & (found.added | found.changed):
                self.world.step()
                self.world.end(program.name)
                self.world.there[program.name] = program
                self.world.images[program.name] = f"sha256:{program}"
                if program.name == GATEWAY:
                    self.world.told = self.conf()
        self.world.step()
        return tuple(sorted(only & (found.added | found.changed)))

    def remove(self, names: AbstractSet[str]) -> None:
        for name in sorted(names):
            self.world.step()
            self.world.end(name)

    def signal(self, name: str, number: str) -> None:
        assert (name, number) == (GATEWAY, "HUP")
        self.world.step()
        self.world.told = self.conf()
        self.world.check()

    def states(self) -> tuple[ProgramState, ...]:
        return tuple(
            ProgramState(name, "running", 1, 1, "", self.world.images[name])
            for name in self.world.there
        )

    def orphans(self) -> tuple[ProgramState, ...]:
        return ()

    def lost_ports(self, *, renew: bool) -> tuple[str, ...]:
        assert renew
        return ()

    def end_orphans(self) -> None:
        """Nothing is left here."""

    def session(self) -> requests.Session:
        return requests.Session()  # nobody asks anything

    def conf(self) -> str:
        return Layout(self.settings.state_dir).nginx_configuration.read_text()


@contextlib.contextmanager
def world() -> Iterator[World]:
    """Give an empty world, in which everything above the runtime is real but reading pages."""
    folder = Path(tempfile.mkdtemp(prefix="cloister-"))
    made = World(folder)

    def first_page(_: object, runtime: ModelRuntime, *rest: Any) -> chat.Reading:
        url = rest[1]
        runtime.world.step()
        (name,) = [r.name for r in deployment.of(record_of(made)).replicas if r.url == url]
        if name not in made.there:
            raise DeploymentError(f"{name} does not run")
        if f"--queue-depth={BROKEN}" in made.there[name].flags:
            raise DeploymentError(f"{name} cannot read")
        made.proven.add(name)
        return READING

    def through_gateway(_plan: object, _runtime: object, _progress: object) -> object:
        assert any(made.gets_pages(name) for name in made.there)
        return READING

    def drained(*_: object, is_gateway_new: bool) -> bool:  # noqa: ARG001
        made.step()
        return True

    def write(*arguments: Any) -> None:
        made.step()  # the record is written, nginx' files are not
        real_write(*arguments)

    def told(*_: object) -> str:
        return gateway.generation(made.told)

    make: Any = lambda chosen: ModelRuntime(made, chosen)  # noqa: E731  # half a Runtime
    kind = replace(RUNTIMES["process"], make=make)
    with (
        mock.patch.dict(RUNTIMES, {"process": kind}),
        mock.patch("cloister.deployment.reading.first_page", first_page),
        mock.patch("cloister.deployment.reading.through_gateway", through_gateway),
        mock.patch("cloister.deployment.reading.drained", drained),
        mock.patch("cloister.deployment.doorkeeper._told", told),
        mock.patch("cloister.deployment.doorkeeper._write", write),
        mock.patch("cloister.deployment.doorkeeper._POLL_S", 0),
        mock.patch("cloister.deployment.gauges.get", return_value=None),
        mock.patch("cloister.deployment.lifecycle._check_ports"),
        mock.patch("cloister.userfile.set_keys"),
    ):
        yield made
    shutil.rmtree(folder)


def record_of(made: World) -> record.Record:
    return record.required(Settings(state_dir=made.state))


@functools.cache
def base() -> Settings:
    flags = ("engine=tesseract", "tesseract.workers=1")
    return config.load(flags=flags, environ={"CLOISTER_CONFIG": "/dev/null"}).settings


def chosen(made: World, replicas: int, queue_depth: int) -> Settings:
    flags = (
        f"state_dir={made.state}",
        f"replicas={replicas}",
        f"tesseract.queue_depth={queue_depth}",
    )
    return config.changed(base(), flags)


def run(made: World, command: str, replicas: int, depth: int) -> None:
    wanted = chosen(made, replicas, depth)
    if command == "up":
        deployment.up(wanted, lambda _: None)
    elif command == "scale":
        deployment.scale(wanted, deployment.Wish(replicas), lambda _: None)
    elif command == "rollout":
        deployment.rollout(wanted, lambda _: None)
    elif command == "canary":
        deployment.rollout(wanted, lambda _: None, 10)
    elif command == "back":
        deployment.back(wanted, lambda _: None)
    else:
        made.there.clear()  # the machine was switched off
        made.proven.clear()
        made.told = ""


COMMANDS = st.sampled_from(["up", "scale", "rollout", "canary", "back", "reboot"])
STEPS = st.tuples(
    COMMANDS,
    st.integers(1, 5),
    st.sampled_from([32, 40, 50, BROKEN]),
    st.none() | st.integers(0, 25),
)


@settings(max_examples=REPETITIONS.interleavings, derandomize=True)
@given(st.lists(STEPS, min_size=1, max_size=6), st.integers(1, 4))
def test_any_commands_killed_anywhere_end_in_the_wanted_state(
    steps: list[tuple[str, int, int, int | None]], wanted: int
) -> None:
    with world() as made:
        for command, replicas, depth, killed_after in [("up", 2, 32, None), *steps]:
            made.calls_left = killed_after
            # Both may happen; what matters is what they leave behind.
            with contextlib.suppress(Killed, CloisterError):
                run(made, command, replicas, depth)
            made.check()
        made.calls_left = None
        final = chosen(made, wanted, 32)
        deployment.up(final, lambda _: None)
        made.check()
        now = record_of(made)
        assert now.settings == final
        assert (now.under_way, now.previous, now.shares) == (None, None, {})
        assert now.standings == {f"tesseract-{n}": "serving" for n in range(1, wanted + 1)}
        assert set(made.there.values()) == set(programs(of(now), None))
        assert all(made.gets_pages(name) for name in now.standings)
        assert now.images.items() >= {(n, f"sha256:{p}") for n, p in made.there.items()}


def test_up_counts_the_shared_programs_that_it_starts() -> None:
    with world() as made:
        run(made, "up", 2, 32)
        shared = {GATEWAY: 1, EXPORTER: 1, WATCHDOG: 1}
        assert {name: record_of(made).taken.get(name) for name in shared} == shared
        made.there.pop(EXPORTER)
        run(made, "up", 2, 32)
        assert {name: record_of(made).taken.get(name) for name in shared} == {**shared, EXPORTER: 2}


def test_every_wait_for_a_program_to_stop_is_told_with_its_longest_time() -> None:
    with world() as made:
        run(made, "up", 2, 32)
        told: list[str] = []
        deployment.up(chosen(made, 1, 40), told.append)
        page_s = base().gateway.timeout_s
        stop_s = {program.name: program.stop_wait_s for program in made.there.values()}
        for name in ("tesseract-1", "tesseract-2"):
            pages = f"waiting for {name}, which finishes its pages, at most {page_s} s"
            stop = f"waiting for {name} to stop, at most {stop_s['tesseract-1']} s"
            assert told.index(pages) < told.index(stop)


def test_what_a_command_does_not_touch_keeps_the_image_that_was_recorded() -> None:
    with world() as made:
        run(made, "up", 2, 32)
        recorded = record_of(made).images["tesseract-1"]
        made.images["tesseract-1"] = made.images["tesseract-2"] = "sha256:other"  # by somebody else
        run(made, "scale", 3, 32)
        assert record_of(made).images["tesseract-1"] == recorded
        run(made, "rollout", 3, 40)
        assert record_of(made).images["tesseract-1"] == made.images["tesseract-1"] != recorded


def test_a_replica_that_goes_reads_on_until_those_that_stay_are_replaced() -> None:
    with world() as made:
        run(made, "up", 3, 32)
        ends: list[tuple[str, list[str]]] = []
        end = made.end

        def noted(name: str) -> None:
            ends.append((name, [other for other in sorted(made.there) if made.gets_pages(other)]))
            end(name)

        with mock.patch.object(made, "end", noted):
            run(made, "up", 1, 40)
        assert [found for found in ends if found[0].startswith("tesseract-")] == [
            ("tesseract-1", ["tesseract-2", "tesseract-3"]),
            ("tesseract-2", ["tesseract-1"]),
            ("tesseract-3", ["tesseract-1"]),
        ]
        now = record_of(made)
        assert (now.settings.replicas, now.standings) == (1, {"tesseract-1": "serving"})


def test_a_rollout_that_fails_returns_to_what_was() -> None:
    with world() as made:
        run(made, "up", 3, 32)
        before = dict(made.there)
        for _ in range(2):
            with pytest.raises(DeploymentError, match="all are back"):
                run(made, "rollout", 3, BROKEN)
            assert made.there == before
            assert set(record_of(made).standings.values()) == {"serving"}


def test_a_rollout_that_fails_after_its_canary_returns_to_what_was_before_both() -> None:
    with world() as made:
        run(made, "up", 3, 32)
        before = dict(made.there)
        run(made, "canary", 3, 40)
        with pytest.raises(DeploymentError, match="all are back"):
            run(made, "rollout", 3, BROKEN)
        assert made.there == before
        for depth in (40, 50):
            run(made, "canary", 3, depth)
        run(made, "back", 3, 32)
        assert made.there == before
        assert record_of(made).previous is None


def test_a_canary_gets_its_share_and_the_next_rollout_finishes_it() -> None:
    with world() as made:
        run(made, "up", 3, 32)
        run(made, "canary", 3, 40)
        assert "--queue-depth=40" in made.there["tesseract-1"].flags
        assert "--queue-depth=32" in made.there["tesseract-2"].flags
        shares = record_of(made).shares
        assert shares["tesseract-1"] / sum(shares.values()) == 0.1
        run(made, "rollout", 3, 40)
        assert all("--queue-depth=40" in made.there[f"tesseract-{n}"].flags for n in range(1, 4))
        assert record_of(made).shares == {}
